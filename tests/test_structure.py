"""The structure that the code must keep: read from its syntax trees."""

from __future__ import annotations

import ast
import inspect
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from helpers import ROOT

from kvmap.engine import Engine

SOURCES = [
    path.relative_to(ROOT)
    for folder in ("kvmap", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
PACKAGE = [path for path in SOURCES if path.parts[0] == "kvmap"]

TYPES_OF_THE_STANDARD_LIBRARY = {
    "_fields": "a NamedTuple's list of its fields, which is public and begins so for technical reasons",
    "_replace": "as _fields",
    "_asdict": "as _fields",
    "_mapping": "the map of a KeysView, ValuesView or ItemsView, as typeshed declares it",
}
"""Names that begin with an underscore and are public all the same."""

STANDARD_MODULES = ("os", "sys")
"""Their os._exit and sys._getframe are documented, and the only ones of their kind."""

EXCEPTIONS: dict[tuple[str, str], str] = {
    ("kvmap/blocks.py", "_get_running_loop"): (
        "asyncio's own quick question whether a loop runs; asyncio.current_task() raises where none "
        "does, which costs a microsecond for each read inside of a transaction"
    ),
}
"""Other accesses that are allowed: file and name, and why."""


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_bytes())


def modules_at_import(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of each module that is imported when this one is, not for type checkers alone."""

    def walk(node: ast.AST) -> Iterator[tuple[int, str]]:
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.Import(names=names):
                    yield from ((child.lineno, each.name) for each in names)
                case ast.ImportFrom(module=module, names=names):
                    yield child.lineno, module or ""
                    yield from ((child.lineno, f"{module}.{each.name}") for each in names)
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                    continue
                case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=rest):
                    for each in rest:
                        yield from walk(each)
                case _:
                    yield from walk(child)

    return walk(tree)


# Each attribute has one owner


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("_")


def accesses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of each access to another object's underscore attribute.

    An object's own are self._x, cls._x, super()._x, in a class also Class._x, and what its class
    defines, on another object of the class that has a name of its own. A module's are public.
    """

    def walk(
        node: ast.AST, classes: frozenset[str], own: frozenset[str]
    ) -> Iterator[tuple[int, str]]:
        if isinstance(node, ast.ClassDef):
            classes, own = classes | {node.name}, frozenset(defined(node))
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if is_private(attribute):
                known = {"self", "cls", *classes, *STANDARD_MODULES}
                if name not in known and attribute not in own:
                    yield node.lineno, attribute
            case ast.Attribute(value=value, attr=attribute) if is_private(attribute):
                if not isinstance(value, ast.Call) or ast.unparse(value.func) != "super":
                    yield node.lineno, attribute
            case ast.Call(func=ast.Name(id="getattr" | "setattr" | "hasattr" | "delattr")):
                match node.args:
                    case [ast.Name(id="self" | "cls"), *_]:
                        pass
                    case [_, ast.Constant(value=str(name)), *_] if is_private(name):
                        yield node.lineno, name
            case ast.ImportFrom(module=str(module), names=names):
                for each in names:
                    if is_private(each.name) and module not in sys.stdlib_module_names:
                        yield node.lineno, each.name
        for child in ast.iter_child_nodes(node):
            yield from walk(child, classes, own)

    return walk(tree, frozenset(), frozenset())


def defined(node: ast.ClassDef) -> Iterator[str]:
    """The methods of a class, and the attributes that they assign to `self`."""
    for each in ast.walk(node):
        match each:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_no_code_reaches_into_another_object(path: Path) -> None:
    found = [
        f"{path}:{line}: {name}"
        for line, name in accesses(tree_of(path))
        if name not in TYPES_OF_THE_STANDARD_LIBRARY and (str(path), name) not in EXCEPTIONS
    ]
    assert not found


def test_no_exception_is_made_in_vain() -> None:
    used = {(str(path), name) for path in SOURCES for _, name in accesses(tree_of(path))}
    assert set(EXCEPTIONS) <= used


def test_an_access_is_found() -> None:
    source = """
class Own:
    _shared = 1
    def method(self, other):
        self._a = Own._shared + super()._b + cls._c + other._a + os._exit
        other._d = self._parts._e + self.other._a
        getattr(other, "_f"), getattr(self, "_g"), other.__dict__, other._repr_html_
from kvmap.memory import _size
"""
    assert [name for _, name in accesses(ast.parse(source))] == ["_d", "_e", "_a", "_f", "_size"]


# The face knows no engine

FACE = (
    *("buffer", "dict_methods", "engine", "iteration", "mapping", "promise"),
    *("showing", "transactions", "views", "writeback"),
)
ENGINES = ("kvmap.memory", "kvmap.disk", "kvmap.redis")


def names_of_imports(tree: ast.Module) -> Iterator[str]:
    """Every module and name that is imported anywhere in a module."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"{module}.{each.name}" for each in names)


@pytest.mark.parametrize("name", FACE)
def test_the_face_imports_no_engine(name: str) -> None:
    found = [
        each
        for each in names_of_imports(tree_of(Path("kvmap", f"{name}.py")))
        if any(f"{each}.".startswith(f"{engine}.") for engine in ENGINES)
    ]
    assert not found


def test_opening_alone_imports_all_engines() -> None:
    importers = {
        path.stem
        for path in PACKAGE
        if len(path.parts) == 2
        for each in names_of_imports(tree_of(path))
        if any(f"{each}.".startswith(f"{engine}.") for engine in ENGINES)
    }
    assert "opening" in importers
    assert not importers & set(FACE)


@pytest.mark.parametrize("folder", ["disk", "redis"])
def test_an_engine_knows_neither_the_face_nor_another_engine(folder: str) -> None:
    others = {*ENGINES, "kvmap.mapping", "kvmap.opening"} - {f"kvmap.{folder}"}
    found = [
        f"{path}: {each}"
        for path in PACKAGE
        if path.parts[1] == folder
        for each in names_of_imports(tree_of(path))
        if any(f"{each}.".startswith(f"{other}.") for other in others)
    ]
    assert not found


# `import kvmap` needs no optional package

NEEDED = {"filelock", "orjson"}
AT_HOME = {
    "redis": ("kvmap/redis",),
    "rich": ("kvmap/cli",),
}
"""Optional packages and the folders that are imported only by those who have them."""


@pytest.mark.parametrize("path", PACKAGE, ids=str)
def test_optional_packages_are_imported_where_they_are_needed(path: Path) -> None:
    found = [
        f"{path}:{line}: {name}"
        for line, name in modules_at_import(tree_of(path))
        if (top := name.split(".")[0]) not in {"kvmap", *NEEDED}
        and top not in sys.stdlib_module_names
        and not str(path).startswith(AT_HOME.get(top, ("nowhere",)))
    ]
    assert not found


# Modules are small

MOST_LINES = 350

LONGER: dict[str, str] = {
    "kvmap/disk/engine.py": "every operation of the protocol; it only composes the parts",
    "kvmap/mapping.py": "every method of the face, with its docstring: its code is counted alone",
    "kvmap/memory.py": "the whole engine on one page, as the example of what the protocol means",
}
"""Modules of which only the lines of code are counted, and why."""

WHOLE = ("mapping",)
"""One class, with every operation of the face."""


def code_lines(path: Path) -> int:
    """Lines that are neither empty, comment nor docstring."""
    docstrings: set[int] = set()
    for node in ast.walk(tree_of(path)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                docstrings.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    code: set[int] = set()
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    with tokenize.open(ROOT / path) as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type not in (*skipped, tokenize.ENDMARKER):
                code.update(range(token.start[0], token.end[0] + 1))
    return len(code - docstrings)


@pytest.mark.parametrize("path", PACKAGE, ids=str)
def test_a_module_is_small(path: Path) -> None:
    if str(path) in LONGER:
        assert code_lines(path) <= (2 * MOST_LINES if path.stem in WHOLE else MOST_LINES)
    else:
        assert len((ROOT / path).read_text().splitlines()) <= MOST_LINES


# Each engine is whole


@pytest.mark.parametrize("name", ["MemoryEngine", "DiskEngine", "RedisEngine"])
def test_an_engine_has_every_member_of_the_protocol(name: str) -> None:
    module = {
        "MemoryEngine": "kvmap/memory.py",
        "DiskEngine": "kvmap/disk/engine.py",
        "RedisEngine": "kvmap/redis/engine.py",
    }[name]
    (found,) = [
        node
        for node in tree_of(Path(module)).body
        if isinstance(node, ast.ClassDef) and node.name == name
    ]
    members = {each.name for each in ast.walk(found) if isinstance(each, ast.FunctionDef)}
    for node in ast.walk(found):
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=attribute, ctx=ast.Store()):
                members.add(attribute)
            case ast.Assign(targets=targets):
                members.update(each.id for each in targets if isinstance(each, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=attribute)):
                members.add(attribute)
    wanted = {name for name, _ in inspect.getmembers(Engine) if not name.startswith("_")}
    assert wanted | {"__contains__", "__len__"} <= members
