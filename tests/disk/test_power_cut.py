"""A power cut at any moment: what was synced is there, and nothing that was never written.

12,000 states of the disk are opened; with `--long`, 144,000.
"""

from __future__ import annotations

import pytest
from cutter import Cutter
from helpers import LONG

RUNS = 48 if LONG else 4
STATES = 1500


@pytest.mark.parametrize("seed", range(RUNS))
@pytest.mark.parametrize("sync", [True, False], ids=["sync", "no sync"])
def test_every_state_opens_and_holds_what_was_synced(sync: bool, seed: int) -> None:
    cutter = Cutter(seed, sync=sync)
    cutter.run(seed, states=STATES)
    print(f"{len(cutter.states)} states, {cutter.kills} kills")
    assert len(cutter.states) >= STATES
