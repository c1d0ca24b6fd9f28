"""What a store that is there is opened with, and what a path means."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers import files_of

import kvmap
from kvmap.settings import Settings, changing

on_disk = pytest.mark.disk
CODECS = ["json", "extended"]


@dataclass
class User:
    name: str


def everything(path: Path) -> dict[str, Any]:
    """The files with their bytes, and the directories."""
    return {**files_of(path), **{str(each): None for each in path.rglob("*") if each.is_dir()}}


# The codec


@on_disk
@pytest.mark.parametrize("flag", ["c", "w", "r"])
@pytest.mark.parametrize("kept", CODECS)
def test_another_codec_than_the_stores_is_refused(path: Path, kept: str, flag: str) -> None:
    other = CODECS[kept == "json"]
    with kvmap.open(path, codec=kept) as d:
        d["ada"] = {"$set": 1}
    before = everything(path)
    with pytest.raises(ValueError, match=f"codec='{kept}'.*codec='{other}' is for a new") as caught:
        kvmap.open(path, flag, codec=other, ttl=60)
    assert f"kvmap load NEW OLD --codec {other}" in str(caught.value)
    assert everything(path) == before
    for codec in (kept, None):
        with kvmap.open(path, flag, **({} if codec is None else {"codec": codec})) as d:
            assert dict(d) == {"ada": {"$set": 1}}
    with kvmap.open(path, "n", codec=other) as d:
        assert d.settings.codec == other


@on_disk
@pytest.mark.parametrize(("kept", "other"), [CODECS, CODECS[::-1]])
def test_the_command_that_the_refusal_names_moves_the_entries(
    path: Path, tmp_path: Path, kept: str, other: str
) -> None:
    from kvmap.cli import main

    with kvmap.open(path, codec=kept) as d:
        d["ada"] = {"$set": 1}
        d["bob"] = [1.5, None]
    assert main(["load", str(tmp_path / "new"), str(path), "--codec", other]) == 0
    with kvmap.open(tmp_path / "new", codec=other) as d:
        assert dict(d) == {"ada": {"$set": 1}, "bob": [1.5, None]}


@on_disk
def test_another_codec_is_refused_while_the_store_is_open_too(path: Path) -> None:
    with kvmap.open(path) as d:
        d["ada"] = 1
        before = everything(path)
        with pytest.raises(ValueError, match="is for a new one"):
            kvmap.open(path, codec="extended")
        assert everything(path) == before


@on_disk
def test_a_store_whose_manifest_is_lost_gets_its_codec_from_repair(path: Path) -> None:
    from kvmap.cli import main

    def lose() -> None:
        (path / "kvmap.json").unlink()

    with kvmap.open(path, codec="extended") as d:
        d["ada"] = {1, 2}
    lose()
    with pytest.raises(ValueError, match="codec must be one of 'json', 'extended', not 'pickle'"):
        kvmap.repair(path, codec="pickle")
    assert kvmap.repair(path).new_manifest
    with kvmap.open(path) as d:
        assert dict(d) == {"ada": {"$set": [1, 2]}}
    assert not kvmap.repair(path, codec="extended").new_manifest  # it is whole, and says json
    lose()
    assert kvmap.repair(path, codec="extended").new_manifest
    with kvmap.open(path) as d:
        assert dict(d) == {"ada": {1, 2}}
    lose()
    assert main(["repair", str(path), "--codec", "extended"]) == 0
    with kvmap.open(path, codec="extended") as d:
        assert dict(d) == {"ada": {1, 2}}


def test_a_change_of_settings_refuses_another_codec() -> None:
    for kept, other in (CODECS, CODECS[::-1]):
        assert changing(codec=other)(None).codec == other
        assert changing(codec=kept)(Settings(codec=kept)).codec == kept
        assert changing(ttl=5)(Settings(codec=kept)).codec == kept
        with pytest.raises(ValueError, match=f"codec='{kept}'"):
            changing(codec=other)(Settings(codec=kept))


# Arguments that do not go together


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"type": User, "codec": "extended"}, ValueError, "type= decides by itself"),
        ({"type": User, "encode": str}, ValueError, "give either"),
        ({"type": "User"}, TypeError, "type must be a type"),
        ({"codec": "extended", "decode": 3}, TypeError, "decode must be"),
        ({"limits": kvmap.Limits(key_chars=3), "evict": "oldest"}, ValueError, "needs a bound"),
        ({"evict": "oldest"}, ValueError, "needs a bound"),
        ({"name": "sessions"}, ValueError, "name= is for a map on a server"),
    ],
    ids=["type and codec", "type and encode", "type", "decode", "limits", "evict", "name"],
)
@pytest.mark.parametrize("is_there", [False, True], ids=["missing", "empty directory"])
def test_nothing_is_made_before_all_arguments_are_checked(
    path: Path, is_there: bool, options: Any, error: type[Exception], message: str
) -> None:
    if is_there:
        path.mkdir()
    for flag in "cn":
        with pytest.raises(error, match=message):
            kvmap.open(path, flag, **options)
        assert path.exists() is is_there
        assert not is_there or not list(path.iterdir())


@on_disk
def test_nothing_is_changed_before_all_arguments_are_checked(path: Path) -> None:
    with kvmap.open(path, codec="extended") as d:
        d["ada"] = {1}
    before = everything(path)
    for options in ({"type": User}, {"evict": "oldest"}, {"shards": 2}, {"encode": 3}):
        with pytest.raises((TypeError, ValueError)):
            kvmap.open(path, ttl=60, **options)  # type: ignore[call-overload]
        assert everything(path) == before
    with kvmap.open(path, limits=kvmap.Limits(entries=5)):
        pass
    with kvmap.open(path, evict="oldest") as d:
        assert (d.settings.evict, d.settings.ttl) == ("oldest", float("inf"))


# The number of shards


@on_disk
def test_another_number_of_shards_than_the_stores_is_refused(path: Path) -> None:
    with kvmap.open(path, shards=4) as d:
        d.update({str(n): n for n in range(20)})
    before = everything(path)
    for flag in "cwr":
        with pytest.raises(ValueError, match="has 4 shards, which stay as they are"):
            kvmap.open(path, flag, shards=8)
        assert everything(path) == before
        with kvmap.open(path, flag, shards=4) as d:
            assert len(d) == len(d.stats().parts) * 5 == 20
    with kvmap.open(path, "n", shards=8) as d:
        assert len(d.stats().parts) == 8


# What a path means


SERVERS = "redis://, rediss://, unix://, valkey://, valkeys://"


@pytest.mark.parametrize("url", ["http://host/a", "file:///tmp/a", "sqlite:///a", "Redis+x://a/b"])
@pytest.mark.parametrize(
    "call",
    [kvmap.open, kvmap.snapshot, lambda url: kvmap.KVMap.fromkeys("ab", path=url)],
    ids=["open", "snapshot", "fromkeys"],
)
def test_an_unknown_url_is_no_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, call: Callable[[str], object]
) -> None:
    monkeypatch.chdir(tmp_path)
    scheme = url.partition("://")[0].lower()
    with pytest.raises(ValueError, match=f"knows {SERVERS};") as caught:
        call(url)
    assert f"'./{scheme}://...'" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_refusal_of_a_url_shows_no_password() -> None:
    with pytest.raises(ValueError, match="knows redis://") as caught:
        kvmap.open("postgres://ada:secret@host/db")
    assert "secret" not in str(caught.value)


@on_disk
def test_a_path_may_have_a_colon_and_slashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, made in {
        "./http://a": "http:/a",
        "a b://c": "a b:/c",
        Path("ftp://a"): "ftp:/a",
        f"{tmp_path}/redis://x": "redis:/x",
        "b:c": "b:c",
    }.items():
        with kvmap.open(name) as d:
            assert d.path == tmp_path / made
        assert (tmp_path / made / "kvmap.json").exists()


@pytest.mark.parametrize("scheme", ["redis", "REDIS", "Valkey"])
def test_the_scheme_of_a_servers_url_may_be_in_capitals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kvmap.StoreUnavailableError):
        kvmap.open(f"{scheme}://127.0.0.1:1/0/a")
    assert os.listdir() == []


@pytest.mark.parametrize("work", [kvmap.verify, kvmap.repair, kvmap.snapshot])
@pytest.mark.parametrize("url", ["s3://bucket/copy", "redis://127.0.0.1:1/0/copy"])
def test_what_is_about_files_takes_no_url(work: Any, url: str) -> None:
    with pytest.raises(ValueError, match="begins a URL"):
        work(url)
    with pytest.raises(ValueError, match="path is empty"):
        work("")


@on_disk
def test_a_backup_goes_to_no_url(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kvmap.open(path) as d:
        d["ada"] = 1
        monkeypatch.chdir(path.parent)
        for url in ("s3://bucket/copy", "redis://127.0.0.1:1/0/copy"):
            with pytest.raises(ValueError, match="begins a URL"):
                d.backup(url)
        with pytest.raises(ValueError, match="path is empty"):
            d.backup("")
        assert os.listdir() == ["store"]
        d.backup("./s3://copy")
    with kvmap.open(path.parent / "s3:" / "copy") as copy:
        assert dict(copy) == {"ada": 1}


@pytest.mark.parametrize("wrong", [17, b"sessions", ["sessions"]])
def test_what_is_no_path_is_refused_with_what_is_one(wrong: Any) -> None:
    for use in (kvmap.open, kvmap.snapshot):
        with pytest.raises(
            TypeError, match=r"path must be a str or an os.PathLike of one, not .*\w"
        ):
            use(wrong)
