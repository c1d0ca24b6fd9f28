"""Commands on a whole store: verify, repair, compact, backup, config, completion."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Run, damage
from helpers import files_of

import kvmap


def test_verify_and_repair(run: Run, store: Path) -> None:
    assert run("verify", "s") == (0, "", "")
    assert json.loads(run("verify", "s", "--json").out)["ok"] is True

    file = damage(store, b"s3cr3t")
    code, out, err = run("verify", "s")
    assert code == 1
    assert out.startswith(f"shards/{file.name}, byte 0, ")
    assert "checksum" in out
    assert "damaged in 1 place; `kvmap repair s`" in err
    found = run("verify", "s", "-j")
    assert found.code == 1
    assert json.loads(found.out)["ok"] is False

    code, out, err = run("get", "s", "token")
    assert (code, out) == (1, "")
    assert str(file) in err
    assert "`kvmap verify s`" in err

    code, out, err = run("repair", "s")
    assert (code, err) == (0, "")
    assert f"shards/{file.name}" in out
    assert "damaged/" in out
    assert run("verify", "s").code == 0
    assert run("get", "s", "token").code == 1
    assert run("get", "s", "ada").code == 0
    assert json.loads(run("repair", "s", "--json").out)["quarantined"] == []


def test_repair_lists_what_is_gone_altogether(run: Run, store: Path) -> None:
    file = damage(store, b"s3cr3t")
    file.unlink()

    code, out, err = run("repair", "s")

    assert (code, err) == (0, "")
    assert out.startswith(f"shards/{file.name}, byte 0, ")
    assert out.endswith("; nothing is left of it\n")


def test_a_broken_manifest_says_what_to_do(run: Run, store: Path) -> None:
    (store / "kvmap.json").write_text("{\n")

    code, out, err = run("get", "s", "ada")
    assert (code, out) == (2, "")
    assert err.endswith("not a manifest; `kvmap repair s` makes a new one\n")
    code, out, err = run("verify", "s")
    assert code == 1
    assert out.startswith("kvmap.json, byte 0, 2 bytes: ")


def test_repair_of_a_store_without_its_manifest(run: Run, store: Path) -> None:
    (store / "kvmap.json").unlink()
    assert run("get", "s", "ada").code == 2
    assert run("verify", "s").code == 1
    assert run("repair", "s").code == 0
    assert run("get", "s", "ada").code == 0


def test_compact(run: Run, store: Path) -> None:
    with kvmap.open(store) as d:
        for n in range(100):
            d["ada"] = n
    size = sum(map(len, files_of(store).values()))

    found = json.loads(run("compact", "s", "--json").out)

    assert found["freed_bytes"] > 0
    assert size - sum(map(len, files_of(store).values())) > found["freed_bytes"] // 2
    assert run("compact", "s") == (0, "", "")
    assert run("get", "s", "ada").out == "99\n"


def test_backup(run: Run, store: Path, tmp_path: Path) -> None:
    before = files_of(store)
    assert run("backup", "s", "copy") == (0, "", "")
    assert run("dump", "copy").out == run("dump", "s").out
    assert files_of(store) == before

    code, _, err = run("backup", "s", "copy")
    assert code == 2
    assert "copy" in err
    assert run("backup", "s", "s/inside").code == 2
    assert not (store / "inside").exists()


def test_backup_of_a_damaged_store(run: Run, store: Path, tmp_path: Path) -> None:
    file = damage(store, b"s3cr3t")

    code, out, err = run("backup", "s", "copy")

    assert (code, out) == (1, "")
    assert f"{file}, byte 0: " in err
    assert "`kvmap verify s`" in err
    assert not (tmp_path / "copy").exists()


# config


def test_config_shows_what_sets_it(run: Run, store: Path) -> None:
    code, out, err = run("config", "s")

    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "s"
    shown = dict(line.split() for line in out.splitlines()[1:])
    assert shown == {
        "--ttl": "forever",
        "--entries": "none",
        "--store-bytes": "none",
        "--value-bytes": "none",
        "--key-chars": "none",
        "--evict": "none",
        "--codec": "json",
    }


def test_config_sets(run: Run, store: Path, tmp_path: Path) -> None:
    options = ["--ttl", "1h30m", "--store-bytes", "1.5MB", "--key-chars", "64", "--evict", "sieve"]
    assert run("config", "s", *options) == (0, "", "")

    with kvmap.open(store) as d:
        assert d.settings.ttl == 5400
        assert d.settings.limits == kvmap.Limits(store_bytes=1_500_000, key_chars=64)
        assert d.settings.evict == "sieve"
        assert len(d) == 4
    out = run("config", "s").out
    assert "--ttl          1h30m\n" in out

    # What it shows sets the same; what is left out stays.
    words = [word for line in out.splitlines()[1:-1] for word in line.split()]
    assert run("config", "copy", *words) == (0, "", "")
    assert run("config", "copy", "--value-bytes", "2KiB").code == 0
    assert run("config", "copy", "--key-chars", "none").code == 0
    assert json.loads(run("config", "copy", "-j").out) == {
        "limits": {"value_bytes": 2048, "store_bytes": 1_500_000},
        "ttl": 5400.0,
        "codec": "json",
        "evict": "sieve",
    }
    assert run("config", "copy", "--ttl", "forever", "--evict", "none").code == 0
    with kvmap.open(tmp_path / "copy") as d:
        assert d.settings.ttl == float("inf")
        assert d.settings.evict is None


def test_config_leaves_the_ttl_that_it_does_not_name(run: Run, store: Path) -> None:
    run("config", "s", "--ttl", "1h")
    run("config", "s", "--entries", "10")
    assert json.loads(run("config", "s", "-j").out)["ttl"] == 3600


def test_config_makes_a_store(run: Run, tmp_path: Path) -> None:
    assert run("config", "new", "--codec", "extended", "--shards", "4", "--ttl", "1d").code == 0
    with kvmap.open(tmp_path / "new", "w") as d:
        assert d.settings.codec == "extended"
        assert d.settings.ttl == 86_400
        assert len(d.stats().parts) == 4
    assert run("config", "other") == (2, "", "kvmap: there is no store at other\n")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--evict", "sieve"], "--evict sieve needs a bound: --entries or --store-bytes"),
        (["--evict", "lru"], "invalid choice: 'lru'"),
        (["--store-bytes", "much"], "'much' is no size; write 4096, 64kB, 100MB or 2GiB"),
        (["--entries", "0"], "--entries must be at least 1"),
        (["--entries", "many"], "'many' is not a number"),
        (["--ttl", "0"], "above 0"),
        (["--codec", "extended"], "codec"),
        (["--shards", "3"], "shards"),
    ],
)
def test_config_refuses(run: Run, store: Path, options: list[str], reason: str) -> None:
    code, out, err = run("config", "s", *options)

    assert (code, out) == (2, "")
    assert reason in err
    assert "Limits(" not in err
    assert "=" not in err
    assert json.loads(run("config", "s", "-j").out)["limits"] == {}


# completion


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(run: Run, shell: str) -> None:
    pytest.importorskip("shtab")

    code, out, err = run("completion", shell)

    assert (code, err) == (0, "")
    for word in ("verify", "--on-conflict", "diskcache", "--json-key"):
        assert word in out


def test_bash_completes_commands_and_options(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("shtab")
    (tmp_path / "c.bash").write_text(run("completion", "bash").out)
    script = """
        source c.bash
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_kvmap; echo "${COMPREPLY[@]}"
    """
    for words, found in (
        (["kvmap", "ver"], "verify"),
        (["kvmap", "load", "--on-c"], "--on-conflict"),
        (["kvmap", "completion", "z"], "zsh"),
    ):
        done = subprocess.run(
            ["bash", "-c", script, "bash", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [found], words


def test_completion_without_shtab(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    code, out, err = run("completion", "bash")
    assert (code, out) == (2, "")
    assert "shtab" in err
