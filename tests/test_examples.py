"""Each script in examples/ runs as its docstring says, and prints what it should."""

import doctest
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import LONG, directory_in_memory

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"

# A script with its arguments, and what it prints: `...` stands for anything. A script whose
# output another file tests has its name in ELSEWHERE.
OUTPUT = {
    "quickstart.py store": """
Write, as into any dict:
  {'ada': {'name': 'Ada', 'visits': 1}, 'bob': {...}, 'token': 's3cr3t'}

Reopen; everything is there:
  ada    {'name': 'Ada', 'visits': 1}
  bob    {'name': 'Bob', 'tags': ['new', 'from Paris']}
  token  s3cr3t

Wait for the token to expire:
  len(d) is 3, d.ttl('token') is ...
  len(d) is 2, d.get('token') is None

Look at the files in ...store:
  kvmap.json
    {...
  shards/...
    {"key":"...
""",
    "sessions.py": """
logged in: ada, bob
bob was idle for ... s, ada was not
logged in: ada
bob's token is good for: None
the service was restarted
ada's token is good for: ada
ada logs out; sessions left: 0
""",
    "resume.py": """
found   0 results, 100 to go
  run 1 was killed
found  30 results,  70 to go
  run 2 was killed
found  60 results,  40 to go
  run 3 was killed
found  90 results,  10 to go
  run 4 came to its end
100 results in 4 runs; the primes are 1000000007, 1000000009, 1000000021, ..., 1000000097
""",
    "stdlib_index.py --files 60 --store index": """
60 files (0 skipped), ... identifiers
... bytes in 32 files in ...index
  find the files ... ms
  read the source ... ms
  store the index ... ms
  close ... ms

in a new process:
namedtuple: ... lines in ... files
  ...
not_a_python_name: 0 lines in 0 files
in most files: self (...), ...
  open ... ms
  look up namedtuple ... ms
  look up fsync ... ms
  look up heappush ... ms
  look up not_a_python_name ... ms
  read every entry ... ms

to ask more: python ...stdlib_index.py --store ...index --ask NAME ...
""",
    "from_key_value_ds.py": """
get_instance             0 entries in a new directory
get_instance, twice      BlockingIOError: ...kvmap-... is open in this process since ...
create                   ['ada']
create, twice            ValueError: ...'ada'...
get                      {'visits': 1}
get, missing             KeyError: 'eve'
create with ttl          {'for': 'ada'}
get, after the ttl       None
delete                   []
delete, missing          None
delete_all               []
create, over a cap       ValueError: ...the limit is 32
create, over a cap       ValueError: ...16384...
create, store full       ValueError: ...100000...
""",
    "crawler.py": """
killed  ... pages, ... to do
...
done    60 pages,  0 to do
the server was asked ...x for 60 pages
""",
    "rate_limiter.py": """
ada calls 100x from 8 threads: let in 5x
bob calls once: let in 1x
after a restart, ada calls once: let in 0x
try again in ... s
after 2 s, ada calls once: let in 1x
""",
    "settings.py": """
font          {'family': 'serif', 'size': 14}
language      fr
recent files  ['a.txt']
language      en  (default again)
recent files  ['b.txt', 'a.txt']
the defaults  {'font': {'family': 'serif', 'size': 11}, 'language': 'en', 'recent files': []}
""",
    "dataclass_values.py users": """
read     User(name='Ada Lovelace', born=datetime.date(1815, 12, 10), tags=['mathematician'])
typed    born in 1815
refused  $.born: invalid RFC3339 encoded date; the value does not fit User
on disk  {'name': 'Ada Lovelace', 'born': '1815-12-10', 'tags': ['mathematician']}
""",
    "msgspec_values.py events": """
event 1  bought milk, tea
event 2  money back for b04965e6-a9bb-591f-8f8a-1adcb2c8dc39
on disk  ['milk', 'tea'] 2026-01-02T12:00:00Z
refused  $.order: invalid UUID; what is stored does not fit ...
""",
}
ELSEWHERE = {
    "benchmark.py",
    "benchmark_redis.py",
    "compare.py",
    "eviction.py",
    "llm_cache.py",
    "page_cache.py",
    "shared_sessions.py",
    "web_service.py",
    "with_libraries.py",
}


def command(script_and_arguments: str) -> list[str]:
    script, *arguments = script_and_arguments.split()
    # Development mode tells of files left open; -W error makes a failure of any warning.
    return [sys.executable, "-X", "dev", "-W", "error", str(EXAMPLES / script), *arguments]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """For a script that shall import this tree's kvmap, and leave nothing outside `tmp_path`."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}


@pytest.mark.parametrize("script", OUTPUT)
def test_output(script: str, tmp_path: Path, environment: dict[str, str]) -> None:
    run = subprocess.run(
        command(script),
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert run.stderr == ""
    assert run.returncode == 0
    expected = OUTPUT[script].lstrip("\n")
    if not doctest.OutputChecker().check_output(expected, run.stdout, doctest.ELLIPSIS):
        assert run.stdout == expected  # is false, and shows both


def test_every_example_is_tested() -> None:
    tested = {script.split()[0] for script in OUTPUT} | ELSEWHERE

    assert tested == {path.name for path in EXAMPLES.glob("*.py")}


def test_each_script_says_how_to_install_what_it_needs() -> None:
    page = (EXAMPLES / "README.md").read_text()
    rows = re.findall(r"^\| \[`(\w+\.py)`\].*?\| `?(\w*)`? ?\|$", page, re.MULTILINE)
    assert {name for name, _ in rows} == {path.name for path in EXAMPLES.glob("*.py")}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for name, extra in rows:
        if extra and not name.startswith("benchmark"):  # these leave out what is missing
            assert extra in extras
            assert f"pip install '.[{extra}]'" in (EXAMPLES / name).read_text()[:300], name


def test_compare_finds_what_the_page_says_of_kvmap(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    def column(text: str, title: str, name: str) -> dict[str, str]:
        (table,) = re.findall(rf"^## {title}\n\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL)
        lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
        (place,) = (i for i, head in enumerate(lines[0]) if head.split()[:1] == [name])
        return {line[0]: line[place] for line in lines[2:]}

    def compare(arguments: list[str]) -> str:
        # Not as strict as `command`: a peer may leave open what it likes.
        run = [sys.executable, str(EXAMPLES / "compare.py"), "--kills", "2", *arguments]
        return subprocess.check_output(run, cwd=tmp_path, env=environment, text=True, timeout=120)

    # The columns of the others take seconds.
    others = ["diskcache", "sqlitedict", "tinydb"] if LONG else ["diskcache"]
    some = ["--only", ",".join(["kvmap", "shelve", *others])]
    # In memory, for some of the others write a hundred times as much.
    with directory_in_memory() as folder, ThreadPoolExecutor() as both:
        environment = {**environment, "TMPDIR": str(folder)}
        shown, in_json = both.map(compare, (some, ["--json", "--only", "kvmap,shelve"]))
        assert not list(folder.iterdir())
    found = json.loads(in_json)
    page = (EXAMPLES / "README.md").read_text()

    assert list(found) == ["What happens when", "Beside others"]
    for title, table in found.items():
        assert set(table) == {"kvmap", "shelve"}
        assert column(shown, title, "kvmap") == table["kvmap"]
        assert column(page, title, "kvmap") == table["kvmap"]
        assert set(column(shown, title, "shelve")) == set(table["shelve"])
    assert column(shown, "Beside others", "shelve") == found["Beside others"]["shelve"]
    *_, missing = shown.split("\n\n")
    for peer in others:
        tried = any(peer in line for line in shown.splitlines() if line.startswith("| |"))
        assert (peer in missing) != tried, "each is tried or named"
    answers = list(found["Beside others"]["kvmap"].values())
    assert answers.count("yes") == len(answers) - 3
    assert not list(tmp_path.iterdir())


def test_stdlib_index_finds_what_is_there(tmp_path: Path, environment: dict[str, str]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "one.py").write_text("def spam(eggs):\n    return eggs + eggs\n\nspam(1)\n")
    (source / "two.py").write_text("import one\none.spam(2)\n")
    (source / "broken.py").write_text("spam = (\n")
    script = "stdlib_index.py --store index"

    built = subprocess.check_output(
        command(f"{script} --source source"), cwd=tmp_path, env=environment, text=True
    )
    asked = subprocess.check_output(
        command(f"{script} --ask spam eggs"), cwd=tmp_path, env=environment, text=True
    )

    assert built.startswith("3 files (1 skipped), 3 identifiers\n")
    assert asked.startswith(
        "spam: 3 lines in 2 files\n  one.py: 1, 4\n  two.py: 2\n"
        "eggs: 2 lines in 1 files\n  one.py: 1, 2\n"
        "in most files: spam (2), eggs (1), one (1)\n"
    )


def test_stdlib_index_shows_progress_on_a_terminal(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    terminal, end = pty.openpty()
    try:
        subprocess.run(
            command("stdlib_index.py --files 20"),
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=end,
            timeout=300,
            check=True,
        )
        shown = os.read(terminal, 65536).decode()
    finally:
        os.close(end)
        os.close(terminal)

    assert "[###############               ] 10 of 20 files" in shown
    assert "[##############################] 20 of 20 files" in shown


def test_web_service(tmp_path: Path, environment: dict[str, str]) -> None:
    def start() -> tuple[subprocess.Popen[str], str, str]:
        service = subprocess.Popen(
            command("web_service.py sessions 0"),
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert service.stdout is not None
        count, address = service.stdout.readline().strip().split(" sessions, ")
        return service, count, address

    def ask(url: str, token: str = "", form: bytes | None = None) -> tuple[int, str, str]:
        request = urllib.request.Request(url, form, {"Cookie": f"token={token}"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                cookie = answer.headers.get("Set-Cookie", "")
                return answer.status, answer.read().decode().strip(), cookie
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode().strip(), ""

    service, count, address = start()
    with service:
        assert count == "0"
        assert ask(f"{address}/")[:2] == (401, "please log in")
        assert ask(f"{address}/elsewhere", form=b"")[0] == 404
        status, _, cookie = ask(f"{address}/login", form=b"name=Ada")
        assert status == 200
        assert "HttpOnly" in cookie
        token = cookie.split(";")[0].removeprefix("token=")
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: ask(f"{address}/", token)[1], range(40)))
        assert sorted(answers) == sorted([f"hello Ada, visit {n}" for n in range(1, 41)])
        service.send_signal(signal.SIGTERM)
        out, err = service.communicate(timeout=30)
        assert (service.returncode, out, err) == (0, "stopped\n", "")
    assert (tmp_path / "sessions" / "lock").read_bytes() == b""  # closed cleanly

    service, count, address = start()
    with service:
        assert count == "1"
        assert ask(f"{address}/", token)[1] == "hello Ada, visit 41"
        assert ask(f"{address}/logout", token, b"")[1] == "bye"
        assert ask(f"{address}/", token)[0] == 401
        service.send_signal(signal.SIGINT)
        assert service.communicate(timeout=30) == ("stopped\n", "")
