"""What the tests of other libraries share."""

import importlib.util
from types import ModuleType

import pytest
from helpers import ROOT


@pytest.fixture(scope="session")
def recipes() -> ModuleType:
    """examples/with_libraries.py, whose functions put other libraries before a map."""
    spec = importlib.util.spec_from_file_location(
        "with_libraries", ROOT / "examples" / "with_libraries.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
