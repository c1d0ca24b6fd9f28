"""What the tests of other libraries share."""

import importlib.util
from types import ModuleType

import pytest
from helpers import ROOT, Library, freeze


@pytest.fixture(autouse=True, scope="module")
def libraries(request: pytest.FixtureRequest) -> None:
    """What a file of tests is about; it is skipped where that is missing."""
    for each in vars(request.module).values():
        if isinstance(each, Library):
            each.load()
    freeze()


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
