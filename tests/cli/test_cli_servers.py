"""Commands on a map on a server, named by its URL."""

import json
from pathlib import Path

import pytest
from commands import Run
from servers import ServerProcess, shared

import kvmap

pytestmark = pytest.mark.redis


@pytest.fixture
def url() -> str:
    """The URL of a map on a server that holds nothing else."""
    server: ServerProcess = shared()
    with server.client() as client:
        client.flushall()
    return f"{server.url}/sessions"


def test_entries(run: Run, url: str) -> None:
    assert run("get", url, "ada") == (2, "", f"kvmap: there is no store at {url}\n")
    assert run("set", url, "ada", '{"visits":1}', "-t", "1h30m") == (0, "", "")
    assert run("incr", url, "n", "41").out == "41\n"
    assert run("get", url, "ada", "n").out == '{"visits":1}\n41\n'
    assert run("get", url, "eve") == (1, "", f'kvmap: {url} has no key "eve"\n')
    assert run("exists", url, "ada").code == 0
    assert run("ttl", url, "n").out == "forever\n"
    assert run("expire", url, "n", "1h").code == 0
    assert json.loads(run("ttl", url, "n", "-j").out)["ttl"] == pytest.approx(3600, abs=30)
    assert run("ls", url).out == "ada\nn\n"
    assert run("count", url).out == "2\n"
    assert run("ls", url, "-l").out.splitlines()[0].endswith("1h29m  ada")
    assert run("del", url, "ada", "eve").code == 1
    assert run("ls", url).out == "n\n"


def test_to_a_server_and_back(run: Run, url: str, store: Path, tmp_path: Path) -> None:
    assert run("load", url, "s") == (0, "", "")
    assert run("dump", url).out == run("dump", "s").out
    assert run("load", url, "s") == (0, "", "")  # running it again changes nothing
    assert run("load", "back", url) == (0, "", "")

    assert run("dump", "back").out == run("dump", "s").out
    with kvmap.open(tmp_path / "back") as d, kvmap.open(store) as first:
        assert list(d.items()) == list(first.items())
        assert d.ttl("token") == pytest.approx(first.ttl("token"), abs=0.1)


def test_stats_and_config(run: Run, url: str) -> None:
    run("set", url, "user:ada", "1", "-t", "1h")
    out = run("stats", url).out
    assert out.startswith(f"{url}\n")
    assert "on the server" in out
    assert "largest entries" in out
    assert run("config", url, "--ttl", "1d", "--value-bytes", "1MB") == (0, "", "")
    assert json.loads(run("config", url, "-j").out)["ttl"] == 86_400
    code, _, err = run("config", url, "--entries", "5", "--evict", "sieve")
    assert code == 2
    assert "=" not in err


@pytest.mark.parametrize("command", ["verify", "repair", "backup"])
def test_a_server_has_no_files(run: Run, url: str, command: str) -> None:
    code, out, err = run(command, url, *["copy"] * (command == "backup"))
    assert (code, out) == (2, "")
    assert "has no files" in err


def test_a_password_is_never_shown(run: Run, url: str) -> None:
    secret = url.replace("redis://", "redis://ada:s3cr3t@")
    commands = (
        ["get", secret, "ada"],
        ["set", secret, "ada", "1"],
        ["stats", secret],
        ["verify", secret],
        ["load", secret, secret],
        ["get", "redis://ada:s3cr3t@localhost:1/0/x", "ada"],
    )
    for command in commands:
        code, out, err = run(*command)
        assert code == 2, command
        assert "s3cr3t" not in out + err
        assert err.startswith("kvmap: ")


@pytest.mark.parametrize(
    "store", ["http://localhost/x", "redis://localhost:port/0/x", "redis://localhost/x"]
)
def test_a_url_that_is_none(run: Run, tmp_path: Path, store: str) -> None:
    code, out, err = run("set", store, "a", "1")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_is_no_json(run: Run, url: str) -> None:
    run("set", url, "ada", "1")
    run("set", url, "bob", "2")
    with shared().client() as client:
        client.hset("kvmap:{sessions:00}:values", '"ada"', "{broken")
    for command in (["get", url, "ada"], ["dump", url]):
        code, out, err = run(*command)
        assert code == 1
        assert "kvmap:{sessions:00}:values" in err
        assert "byte" not in err
        assert "verify" not in err
    assert out == '{"key":"bob","value":2,"expires":null}\n'
