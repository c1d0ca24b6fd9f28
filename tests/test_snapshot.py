"""The stored index saves reading the shards; without it, or with a wrong one, nothing is lost."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Clock, files_of, killed
from invariants import check

import kvmap
from kvmap import snapshot
from kvmap.manifest import Manifest
from kvmap.record import sealed

KEYS: list[Any] = [*(f"key {i}" for i in range(40)), 1, 2.5, None, ("a", (1, None))]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "LEAST", 10)
    monkeypatch.setattr(snapshot, "TOGETHER", 16)


@pytest.fixture
def model(path: Path, clock: Clock) -> dict[Any, Any]:
    """What the store at `path` holds, closed, with a stored index."""
    with kvmap.open(path, shards=4, files=clock) as d:
        for number, key in enumerate(KEYS):
            d[key] = number
        d["key 3"] = "overwritten"
        del d["key 5"]
        d["key 5"] = "at the end"
        d.set("timed", [1], ttl=100)
        found = dict(d)
    assert (path / "index.jsonl").exists()
    return found


def used(path: Path, clock: Clock) -> bool:
    """Whether a load takes the stored index."""
    with kvmap.open(path, files=clock) as d:
        return snapshot.load(d._store) is not None


def assert_holds(path: Path, expected: dict[Any, Any], clock: Clock) -> None:
    for flag in ("r", "c"):
        with kvmap.open(path, flag, files=clock) as d:
            assert list(d.items()) == list(expected.items())
            check(d)


def test_it_is_used(path: Path, model: dict[Any, Any], clock: Clock) -> None:
    before = files_of(path)
    assert used(path, clock)
    assert_holds(path, model, clock)
    assert files_of(path) == before  # who only reads changes nothing
    with kvmap.open(path, "r", files=clock) as d:
        assert d.ttl("timed") == 100
        assert d.ttl("key 3") is None
        assert [type(key) for key in d] == [type(key) for key in model]


def test_deadlines_go_on(path: Path, model: dict[Any, Any], clock: Clock) -> None:
    clock.time += 101
    del model["timed"]
    assert used(path, clock)
    assert_holds(path, model, clock)


def test_a_small_map_has_none(path: Path) -> None:
    with kvmap.open(path) as d:
        d.update(dict.fromkeys(map(str, range(9)), 0))
    assert not (path / "index.jsonl").exists()
    with kvmap.open(path) as d:
        d["9"] = 0
        assert len(d) == 10
    assert (path / "index.jsonl").exists()
    with kvmap.open(path) as d:
        d.clear()
        d["a"] = 1
    assert not (path / "index.jsonl").exists()


def _flipped(data: bytes) -> bytes:
    at = random.Random(1).randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _resealed(line: int, change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        lines = [json.loads(each) for each in data.splitlines()]
        change(lines[line])
        lines[-1].pop("crc", None)
        texts = [json.dumps(each, separators=(",", ":")).encode() for each in lines]
        return sealed(b"\n".join(texts)[:-1])

    return changed


FORGED: dict[str, Callable[[bytes], bytes]] = {
    "one length less": _resealed(-1, lambda content: content["ends"].pop()),
    "no lengths": _resealed(-1, lambda content: content.clear()),
    "lengths of a wrong type": _resealed(-1, lambda content: content.update(ends=["1"] * 4)),
    "no array of keys": _resealed(0, lambda content: content.update(keys=3)),
    "an object as a key": _resealed(0, lambda content: content["keys"].__setitem__(0, {})),
    "entries of a wrong type": _resealed(1, lambda content: content.update(entries=17)),
    "an entry cut": _resealed(1, lambda content: content.update(entries=content["entries"][:-4])),
    "an entry less": _resealed(1, lambda content: content.update(entries=content["entries"][40:])),
    "a deadline too many": _resealed(1, lambda content: content["expires"].append([1000, 5])),
    "a deadline of a wrong type": _resealed(1, lambda content: content.update(expires=[[0, "5"]])),
    "no fields": _resealed(1, lambda content: content.clear()),
    "another file": lambda data: sealed(b'{"key":1,"seq":2'),
}


@pytest.mark.parametrize(
    "damage",
    [
        _flipped,
        lambda data: data.replace(b"A", b"B", 1),  # in the text of the entries
        lambda data: data[:-5],
        lambda data: b"",
        lambda data: data + b"\n",
        lambda data: b"[" * 100_000,
        _resealed(0, lambda content: content["keys"].reverse()),
        *FORGED.values(),
    ],
    ids=["flipped", "plausible", "cut", "empty", "longer", "deep", "reversed", *FORGED],
)
def test_a_damaged_one_is_ignored(
    path: Path, model: dict[Any, Any], clock: Clock, damage: Callable[[bytes], bytes]
) -> None:
    file = path / "index.jsonl"
    file.write_bytes(damage(file.read_bytes()))
    assert not used(path, clock)
    assert_holds(path, model, clock)


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_one_that_the_manifest_vouches_for_is_checked_all_the_same(
    path: Path, model: dict[Any, Any], clock: Clock, forge: Callable[[bytes], bytes]
) -> None:
    file, told = path / "index.jsonl", path / "kvmap.json"
    file.write_bytes(forge(file.read_bytes()))
    manifest = Manifest.from_bytes(str(told), told.read_bytes())
    manifest.index = file.read_bytes()[-11:-3].decode()
    told.write_bytes(manifest.to_bytes())
    assert not used(path, clock)
    assert_holds(path, model, clock)


def test_a_removed_one_is_missed_by_nobody(path: Path, model: dict[Any, Any], clock: Clock) -> None:
    (path / "index.jsonl").unlink()
    assert not used(path, clock)
    assert_holds(path, model, clock)
    with kvmap.open(path, files=clock) as d:
        d["new"] = 1
        assert len(d) == len(model) + 1
    assert used(path, clock)
    assert_holds(path, {**model, "new": 1}, clock)


def test_an_old_one_put_back_is_ignored(path: Path, model: dict[Any, Any], clock: Clock) -> None:
    old = (path / "index.jsonl").read_bytes()
    with kvmap.open(path, files=clock) as d:
        for number in range(100):
            d[f"new {number}"] = model[f"new {number}"] = number
        len(d)
    assert (path / "index.jsonl").read_bytes() != old
    (path / "index.jsonl").write_bytes(old)
    assert not used(path, clock)
    assert_holds(path, model, clock)


@pytest.mark.parametrize("reads_all", [False, True])
def test_shards_that_grew_since(
    path: Path, model: dict[Any, Any], clock: Clock, reads_all: bool
) -> None:
    before = (path / "index.jsonl").read_bytes()
    # So few that storing the index anew does not pay.
    with kvmap.open(path, files=clock) as d:
        if reads_all:
            assert len(d) == len(model)
        d["key 7"] = model["key 7"] = 7
        del d["key 8"], model["key 8"]
    assert (path / "index.jsonl").read_bytes() == before or not reads_all
    assert_holds(path, model, clock)
    with kvmap.open(path, files=clock) as d:
        del d["key 9"], model["key 9"]
        d["key 9"] = model["key 9"] = "later"
    assert_holds(path, model, clock)


def test_compacted_shards_make_it_useless(path: Path, model: dict[Any, Any], clock: Clock) -> None:
    with kvmap.open(path, files=clock) as d:
        for key in list(d)[:30]:
            del d[key], model[key]
        d.compact()
        check(d)
    assert_holds(path, model, clock)


def test_after_a_kill_the_shards_are_read(
    path: Path, model: dict[Any, Any], clock: Clock, tmp_path: Path
) -> None:
    with kvmap.open(path, files=clock) as d:
        d["last"] = model["last"] = "words"
        copy = killed(d, tmp_path / "killed")
    assert_holds(copy, model, clock)


def test_a_shard_damaged_since_is_found_out(
    path: Path, model: dict[Any, Any], clock: Clock
) -> None:
    # With the index stored, the shards are not read; so it must be each read that checks.
    for file in (path / "shards").iterdir():
        data = bytearray(file.read_bytes())
        at = data.index(b'"value":') + len(b'"value":')
        data[at] ^= 1
        file.write_bytes(data)
    with kvmap.open(path, files=clock) as d:
        wrong = 0
        for key, value in model.items():
            try:
                assert d[key] == value
            except kvmap.CorruptStoreError as error:
                assert Path(error.file).parent == path / "shards"
                wrong += 1
        assert wrong >= 4


def test_side_by_side_with_a_dict(path: Path, clock: Clock) -> None:
    chance = random.Random(5)
    model: dict[Any, Any] = {}
    for _ in range(150):
        with kvmap.open(path, shards=4, files=clock) as d:
            for _ in range(chance.randrange(12)):
                key, value = f"key {chance.randrange(60)}", "x" * chance.randrange(3000)
                action = chance.randrange(10)
                if action < 6:
                    d[key] = model[key] = value
                elif action < 8:
                    assert d.pop(key, None) == model.pop(key, None)
                elif action == 8:
                    assert len(d) == len(model)
                else:
                    d.compact()
            if chance.randrange(2):
                assert list(d.items()) == list(model.items())
            if chance.randrange(4) == 0:
                check(d)
    assert_holds(path, model, clock)
