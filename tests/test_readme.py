"""What the pages say is tried: code, commands, checksums, links, tables."""

from __future__ import annotations

import inspect
import json
import os
import pydoc
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path
from typing import Any

import pytest

import kvmap
from kvmap.cli import parser

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page
    for folder in (ROOT, ROOT / ".github", ROOT / "examples", ROOT / "kvmap", ROOT / "tests")
    for page in (folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))
    if ".pytest_cache" not in page.parts
)
README = (ROOT / "README.md").read_text("utf-8")
MOVING = (ROOT / "examples" / "MOVING.md").read_text("utf-8")
TABLES = [part for part in MOVING.split("\n## ")[1:] if re.search(r"^\|---\|---\|$", part, re.M)]


def blocks(kind: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == kind]


def run_python(code: str, folder: Path) -> str:
    (folder / "readme.py").write_text(code)
    ran = subprocess.run(
        [sys.executable, "-W", "error", "readme.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stderr == ""
    assert ran.returncode == 0
    return ran.stdout


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_the_version_and_the_licence_are_those_of_the_metadata() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == kvmap.__version__
    assert f": {kvmap.__version__}\n" in (ROOT / ".github" / "CHANGELOG.md").read_text("utf-8")
    (file,) = project["license-files"]
    assert (ROOT / file).read_text("utf-8").startswith(f"{project['license']} License\n")


def test_a_map_is_opened_and_written_to_in_one_line(tmp_path: Path) -> None:
    path, key, value = tmp_path / "store", "ada", {"visits": 1}
    exec("with kvmap.open(path) as d: d[key] = value")
    with kvmap.open(path) as d:
        assert d == {key: value}


def test_the_readme_has_at_most_200_lines() -> None:
    assert len(README.splitlines()) <= 200


def test_the_python_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    if "type=User" in README:
        pytest.importorskip("msgspec")
    shown = run_python("\n".join(blocks("python")), tmp_path)
    assert shown.startswith(blocks("")[0])  # the first block's output is below it


def without_times(shown: str) -> str:
    """What a command shows, but for what depends on the moment; so do checksums of deadlines."""
    shown = re.sub(r'"expires":[\d.]+(.*)"crc":"\w{8}"', r'"expires":0\1"crc":""', shown)
    return re.sub(r"\b(\d+h)?\d+m(\d+s)?\b", "TIME", shown)


def test_the_console_commands_show_what_is_below_them(tmp_path: Path) -> None:
    """On the store of the first block; where nothing is below one, nothing is said of it."""
    run_python(blocks("python")[0], tmp_path)
    commands = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(blocks("console")), re.M)
    assert [bool(shown) for _, shown in commands] == [True, False, True]
    for command, shown in commands:
        kvmap_command = f'kvmap() {{ {shlex.quote(sys.executable)} -m kvmap "$@"; }}'
        ran = subprocess.run(
            ["bash", "-c", f"{kvmap_command}; {command}"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (0, ""), command
        assert without_times(ran.stdout) == without_times(shown), command


COMMANDS = [
    pytest.param(command, id=f"{page_id(page)} {command}")
    for page in PAGES
    for line in re.findall(
        r"^ {4}((?:kvmap|python|pip|bash|jq|\.venv|python3)[ /].*)$", page.read_text("utf-8"), re.M
    )
    for command in line.partition("   #")[0].split(" && ")
]
SCRIPTS = "".join(each.read_text("utf-8") for each in (ROOT / "examples").rglob("*.py"))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "optional-dependencies"
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_pages_name_what_is_there(command: str) -> None:
    """Programs, options, files and extras; other tests run the programs."""
    program, *arguments = shlex.split(command)
    options = [each for each in arguments if each.startswith("--")]
    if program == "kvmap":
        parser().parse_args(arguments)
    elif arguments[:2] == ["-m", "pytest"]:
        for each in arguments[2:]:
            assert each[0] == "-" or not each.endswith(".py") or (ROOT / each).is_file()
        assert set(options) <= {"--dist", "--long"}
    elif "install" in arguments:
        for extra in re.findall(r"\[(.*)\]", command):
            assert extra in EXTRAS
        assert "kvmap" not in command  # there is no release to install
    elif program == "python":
        assert (ROOT / arguments[0]).is_file()
        for each in options:
            assert f'"{each}"' in SCRIPTS
    elif program == "bash":
        assert (ROOT / arguments[0]).is_file()
    else:
        assert program == "jq" or arguments[:2] == ["-m", "venv"] or "examples/" in arguments[-1]


def test_the_test_that_is_named_is_there() -> None:
    pages = "".join(page.read_text("utf-8") for page in PAGES)
    (named,) = set(re.findall(r'"(tests/.*::.*)"', pages))
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    found = subprocess.run(
        [*collect, named], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert named in found.stdout, found.stdout + found.stderr


def test_the_entries_of_a_store_can_be_had_without_kvmap(tmp_path: Path) -> None:
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    page = (ROOT / "kvmap" / "disk" / "ARCHITECTURE.md").read_text("utf-8")
    (command,) = re.findall(r"^    (jq .*)$", page, re.M)
    with kvmap.open(tmp_path / "sessions") as d:
        d.update({"ada": 1, "bob": [2], ("a", 1): {"b": None}, "gone": 3})
        d["ada"] = 4
        del d["gone"]
        expected = dict(d)
    shown = subprocess.check_output(["bash", "-c", command], cwd=tmp_path, text=True)
    found = [json.loads(line) for line in shown.splitlines()]
    keys = [tuple(each["key"]) if isinstance(each["key"], list) else each["key"] for each in found]
    assert dict(zip(keys, [each["value"] for each in found], strict=True)) == expected


SAMPLES = [*PAGES, *sorted((ROOT / "kvmap").rglob("*.py"))]
SAMPLES = [page for page in SAMPLES if re.search(r'"crc":"\w{8}"\}', page.read_text("utf-8"))]


@pytest.mark.parametrize("page", SAMPLES, ids=page_id)
def test_sample_records_have_right_checksums(page: Path) -> None:
    """A record's checksum is the CRC-32 of its line before `,"crc"`."""
    records = re.findall(r'(\{".*),"crc":"(\w{8})"\}', page.read_text("utf-8"))
    assert records
    for record, crc in records:
        assert f"{zlib.crc32(record.encode()):08x}" == crc, record


REPOSITORY = "https://github.com/kvmap/kvmap"
OF_OURS = re.compile(
    rf"{REPOSITORY}/(?:blob|tree)/main/(.*)|https://raw.githubusercontent.com/kvmap/kvmap/main/(.*)"
)


def links(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_to_files(page: Path) -> None:
    """Absolute ones to the repository too, by the place that the file has in it."""
    for link in links(page):
        path, _, heading = link.partition("#")
        if "://" not in link:
            target = page.parent / path if path else page
        elif ours := OF_OURS.fullmatch(path):
            target = ROOT / (ours[1] or ours[2])
        else:
            assert link in (REPOSITORY, f"{REPOSITORY}/issues"), link
            continue
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.M)
            assert heading in [
                re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings
            ]


def test_links_of_the_readme_are_right_on_a_package_index() -> None:
    """There it stands alone, so all of them are absolute; they are those of the project's metadata."""
    assert len(links(ROOT / "README.md")) > 10
    assert [link for link in links(ROOT / "README.md") if "://" not in link] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    urls = project["urls"]
    assert urls["Repository"] == REPOSITORY
    assert urls["Issues"] == f"{REPOSITORY}/issues"
    changelog = OF_OURS.fullmatch(urls["Changelog"])
    assert changelog is not None
    assert (ROOT / changelog[1]).is_file()


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, todo = {ROOT / "README.md"}, [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        for link in links(page):
            ours = OF_OURS.fullmatch(link.partition("#")[0])
            target = (ROOT / (ours[1] or ours[2]) if ours else page.parent / link).resolve()
            if target.suffix == ".md" and target.is_file() and target not in reached:
                reached.add(target)
                todo.append(target)
    assert {page.resolve() for page in PAGES} <= reached


@pytest.mark.parametrize("section", TABLES, ids=[each.splitlines()[0] for each in TABLES])
def test_each_call_that_takes_anothers_place_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {
        **{name: getattr(kvmap, name) for name in kvmap.__all__ if name.endswith("Error")},
        "kvmap": kvmap,
        "shutil": __import__("shutil"),
        "uuid4": __import__("uuid").uuid4,
        **{"key": "ada", "value": {"visits": 1}, "default": None, "items": {"bob": 1}},
    }
    cells = re.findall(r"^\| .* \| (.*) \|$", section, re.M)
    assert len(cells) > 5
    evict = kvmap.Limits(entries=10)
    try:
        for code in re.findall(r"`(.*?)`", "\n".join(cells)):
            if code in ("async def", "with d.transaction():"):
                continue
            if code.startswith("evict="):
                kvmap.open(":memory:", limits=evict, **eval(f"dict({code})")).close()
                continue
            if code.startswith("d = ") and "d" in names:
                names["d"].close()
            run = re.sub(r'"redis://[^"]*"', '":memory:"', code)  # the engine is not what is tried
            if run != code:
                run += "; d[key] = value"
            if code.startswith("@"):
                run += "\ndef called(): return 1"
            try:
                exec(run, names)
            except Exception as error:
                raise AssertionError(f"{code} does not work") from error
    finally:
        names["d"].close()


def test_the_program_that_moves_objects_runs(tmp_path: Path) -> None:
    pytest.importorskip("diskcache")
    pytest.importorskip("msgspec")
    models = "from dataclasses import dataclass\n\n@dataclass\nclass User:\n    name: str\n"
    (tmp_path / "models.py").write_text(models)
    made = (
        "from diskcache import Cache",
        "from models import User",
        "old = Cache('old_users')",
        "old.set('ada', User('Ada'), expire=1000)",
        "old['bob'] = User('Bob')",
        "old.set('eve', User('Eve'), expire=-1)",
        "old.close()",
    )
    run_python("\n".join(made), tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```$", MOVING, re.M | re.S)
    run_python(code, tmp_path)
    with kvmap.open(tmp_path / "users", "r") as d:
        assert dict(d) == {"ada": {"name": "Ada"}, "bob": {"name": "Bob"}}
        assert 900 < (d.ttl("ada") or 0) <= 1000
        assert d.ttl("bob") is None


def test_kept_results_of_diskcache_are_found_as_the_page_says(tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    with diskcache.Cache(str(tmp_path / "old")) as old:

        @old.memoize(name="area")
        def area(width: int, height: int) -> int:
            return width * height

        area(2, 3)
    from kvmap.moving.diskcaches import DiskCache
    from kvmap.moving.loading import load

    (memoize,) = re.findall(r"`@(d\.memoize\(key=.*?\)\))`", MOVING)
    with kvmap.open(":memory:") as d:
        with DiskCache(str(tmp_path / "old")) as source:
            load(d, source)
        found = eval(memoize, {"d": d})(area.__wrapped__)
        assert (found(2, 3), found.cache_info().hits) == (6, 1)


def test_the_table_of_tags_is_the_codecs_own() -> None:
    from kvmap import extended

    page = (ROOT / "examples" / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| .*\|$", extended.__doc__ or "", re.M)
    assert len(rows) > 10
    assert "\n".join(rows[1:]) in page


def test_the_table_of_options_has_every_option() -> None:
    table = README.split("\n## Options")[1].split("\n## ")[0]
    named = set(re.findall(r"`(\w+)", "".join(re.findall(r"^\| (.*?) \|", table, re.M))))
    assert named == set(inspect.signature(kvmap.open).parameters)


def test_the_commands_that_move_entries_in_are_right() -> None:
    found = re.findall(r"`(kvmap load [^`\n]+)`", README + MOVING)
    assert len(found) >= 5
    for command in found:
        parser().parse_args(shlex.split(command)[1:])


def test_help_is_a_manual_of_every_public_name() -> None:
    manual = pydoc.plain(pydoc.render_doc(kvmap))
    for name in kvmap.__all__:
        shown = (f"class {name}(", f"    {name}(", f"    {name} = ")
        assert any(each in manual for each in shown), name


FOR_KVMAP_ITSELF = {"close_at_exit", "after_fork"}  # called at exit and after a fork
OPERATORS = (
    "getitem",
    "setitem",
    "delitem",
    "contains",
    "len",
    "iter",
    "reversed",
    "eq",
    "or",
    "ior",
)
METHODS = {
    **{f"__{name}__": None for name in OPERATORS},
    **{
        name: each
        for kind in kvmap.KVMap.__mro__
        if kind.__module__.startswith("kvmap")
        for name, each in vars(kind).items()
        if name[0] != "_"
        and name not in FOR_KVMAP_ITSELF
        and (inspect.isroutine(each) or isinstance(each, property))
    },
}


@pytest.mark.parametrize("name", METHODS)
def test_every_public_method_has_an_example(name: str) -> None:
    assert ">>>" in (inspect.getdoc(getattr(kvmap.KVMap, name)) or "")


RETURNED = {"Damage", "Quarantined", "Repaired", "Report", "ShardReport"}
"""What `verify` and `repair` return; their examples are those of these two."""


@pytest.mark.parametrize("name", sorted({*kvmap.__all__} - RETURNED))
def test_every_public_name_has_an_example(name: str) -> None:
    assert ">>>" in (inspect.getdoc(getattr(kvmap, name)) or "")


def test_signatures_in_the_manual_show_no_addresses() -> None:
    assert " at 0x" not in pydoc.plain(pydoc.render_doc(kvmap))
