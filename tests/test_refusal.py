"""What is not ours, or makes no sense, is refused with a clear error, and nothing is touched."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from helpers import files_of

import kvmap
from kvmap.disk.records import sealed

on_disk = pytest.mark.disk


@on_disk
@pytest.mark.parametrize("flag", ["c", "w", "r", "n"])
def test_a_folder_of_other_files_is_left_alone(path: Path, flag: Any) -> None:
    (path / "photos").mkdir(parents=True)
    (path / "thesis.tex").write_text("years of work")
    with pytest.raises(kvmap.NotAStoreError, match="photos"):
        kvmap.open(path, flag)
    assert files_of(path) == {"thesis.tex": b"years of work"}
    assert sorted(each.name for each in path.iterdir()) == ["photos", "thesis.tex"]
    for examine in (kvmap.verify, kvmap.repair):
        with pytest.raises(kvmap.NotAStoreError):
            examine(path)
    assert files_of(path) == {"thesis.tex": b"years of work"}


@on_disk
@pytest.mark.parametrize("flag", ["c", "w", "r", "n"])
def test_a_file_is_no_store(path: Path, flag: Any) -> None:
    path.write_bytes(b"dbm")
    with pytest.raises(kvmap.NotAStoreError, match="is not a directory; a store is one"):
        kvmap.open(path, flag)
    for examine in (kvmap.verify, kvmap.repair):
        with pytest.raises(kvmap.NotAStoreError, match="is not a directory"):
            examine(path)
    assert path.read_bytes() == b"dbm"


@on_disk
@pytest.mark.parametrize("flag", ["w", "r"])
def test_what_must_be_there_is_not_made(path: Path, flag: Any) -> None:
    with pytest.raises(FileNotFoundError, match="no store here") as caught:
        kvmap.open(path, flag)
    assert caught.value.filename == str(path)
    assert not path.exists()
    path.mkdir()
    with pytest.raises(kvmap.NotAStoreError, match="holds no kvmap store"):
        kvmap.open(path, flag)
    assert not list(path.iterdir())


@on_disk
def test_verify_and_repair_make_nothing(path: Path) -> None:
    for examine in (kvmap.verify, kvmap.repair):
        with pytest.raises(FileNotFoundError):
            examine(path)
    assert not path.exists()
    path.mkdir()
    for examine in (kvmap.verify, kvmap.repair):
        with pytest.raises(kvmap.NotAStoreError, match="no kvmap store"):
            examine(path)
    assert not list(path.iterdir())


@on_disk
def test_a_store_without_its_manifest_is_not_taken_for_a_new_one(path: Path) -> None:
    with kvmap.open(path) as d:
        d["ada"] = 1
    (path / "kvmap.json").unlink()
    before = files_of(path)
    for flag in ("c", "w", "r"):
        with pytest.raises(kvmap.NotAStoreError, match=r"kvmap\.json|no kvmap store"):
            kvmap.open(path, flag)
        assert files_of(path) == before
    with pytest.raises(kvmap.NotAStoreError, match=r"kvmap\.repair\(\) makes a new one"):
        kvmap.open(path)
    assert kvmap.repair(path).new_manifest
    with kvmap.open(path) as d:
        assert dict(d) == {"ada": 1}


@on_disk
@pytest.mark.parametrize("flag", ["c", "w", "r"])
@pytest.mark.parametrize("text", [b'{"my":"settings"}', sealed(b'{"format":7,"new":{}'), b"x"])
def test_what_is_refused_for_its_manifest_is_left_untouched(
    path: Path, flag: str, text: bytes
) -> None:
    path.mkdir()
    (path / "kvmap.json").write_bytes(text)
    (path / "lock").write_bytes(b"of another program")
    before = files_of(path)
    with pytest.raises(kvmap.NotAStoreError):
        kvmap.open(path, flag)
    assert files_of(path) == before


@on_disk
def test_a_newer_format_names_both(path: Path) -> None:
    with kvmap.open(path) as d:
        d["ada"] = 1
    (path / "kvmap.json").write_bytes(sealed(b'{"format":7,"new":{}'))
    before = files_of(path)
    with pytest.raises(kvmap.NotAStoreError, match=r"format 7.*formats up to 1.*newer kvmap"):
        kvmap.open(path)
    with pytest.raises(kvmap.NotAStoreError, match="format 7"):
        kvmap.verify(path)
    with pytest.raises(kvmap.NotAStoreError, match="format 7"):
        kvmap.repair(path)  # what a newer kvmap wrote is not damage
    after = files_of(path)
    assert {**before, "lock": b""} == {**after, "lock": b""}


@on_disk
@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{", b"[]", b"null", b"\0" * 100, b'{"format":"1"}', b'{"format":true}'),
        *(b'{"format":1,"shards":64}', b'{"format":0}', b"\xff\xfe", b"[" * 100_000),
    ],
    ids=lambda text: text[:12].decode("latin-1"),
)
def test_a_broken_manifest_names_itself(path: Path, text: bytes) -> None:
    with kvmap.open(path) as d:
        d["ada"] = 1
    (path / "kvmap.json").write_bytes(text)
    for flag in ("c", "w", "r"):
        with pytest.raises(kvmap.NotAStoreError, match=re.escape(str(path / "kvmap.json"))):
            kvmap.open(path, flag)
    assert (path / "kvmap.json").read_bytes() == text
    with kvmap.open(path, "n") as d:
        assert not len(d)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"flag": "x"}, ValueError, "flag must be 'c', 'w', 'r' or 'n', not 'x'"),
        ({"flag": None}, ValueError, "flag must be"),
        ({"flag": ["c"]}, ValueError, "flag must be"),
        ({"shards": 0}, ValueError, "power of two from 1 to 32, not 0"),
        ({"shards": -2}, ValueError, "power of two"),
        ({"shards": 48}, ValueError, "power of two"),
        ({"shards": 64}, ValueError, "power of two"),
        ({"shards": True}, TypeError, "shards must be an int, not bool"),
        ({"shards": 64.0}, TypeError, "shards must be an int, not float"),
        ({"ttl": 0}, ValueError, "ttl must be above 0"),
        ({"ttl": -1.5}, ValueError, "ttl must be above 0"),
        ({"ttl": float("nan")}, ValueError, "ttl must be above 0 and finite"),
        ({"ttl": float("inf")}, ValueError, "None: the entry stays"),
        ({"ttl": timedelta(0)}, ValueError, "ttl must be above 0"),
        ({"ttl": True}, TypeError, "ttl must be seconds"),
        ({"ttl": "60"}, TypeError, "ttl must be seconds"),
        ({"limits": {"key_chars": 3}}, TypeError, "limits must be"),
        ({"timeout": "1"}, TypeError, "timeout must be"),
        ({"timeout": -1}, ValueError, "timeout must be"),
        ({"timeout": float("nan")}, ValueError, "timeout must be"),
        ({"limits": None}, TypeError, "limits must be"),
        ({"evict": "lru"}, ValueError, "evict must be one of 'oldest', 'sieve' or None"),
        ({"evict": "sieve"}, ValueError, "evict='sieve' needs a bound"),
        ({"codec": "pickle"}, ValueError, "codec must be one of 'json', 'extended'"),
        ({"codec": None}, ValueError, "codec must be one of"),
        ({"encode": "json"}, TypeError, "encode must be"),
        ({"decode": 3}, TypeError, "decode must be"),
        ({"mode": "rwx"}, TypeError, "mode must be"),
        ({"mode": -1}, ValueError, "mode must be"),
    ],
)
def test_wrong_arguments(
    path: Path, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=re.escape(match)):
        kvmap.open(path, **options)
    assert not path.exists()


@pytest.mark.parametrize(
    "wrong", [3, 1.5, ["store"], object(), b"store"], ids=lambda wrong: type(wrong).__name__
)
def test_a_path_that_is_none(wrong: Any) -> None:
    with pytest.raises(TypeError, match="path|PathLike"):
        kvmap.open(wrong)


@pytest.mark.parametrize("flag", ["w", "r"])
def test_a_map_in_memory_is_always_new(flag: str) -> None:
    with pytest.raises(FileNotFoundError, match="always new"):
        kvmap.open(":memory:", flag)
    for new in ("c", "n"):
        with kvmap.open(":memory:", new) as d:
            assert d.name == ":memory:"
            with pytest.raises(ValueError, match="no directory"):
                d.path


def test_an_empty_path_is_not_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="path is empty"):
        kvmap.open("")
    assert not list(tmp_path.iterdir())


def test_a_path_with_a_null_character(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="null"):
        kvmap.open(f"{tmp_path}/a\0b")


@pytest.mark.parametrize("name", ["key_chars", "value_bytes", "entries", "store_bytes"])
def test_wrong_limits(name: str) -> None:
    for wrong in (True, 1.5, "9"):
        with pytest.raises(TypeError, match=f"limit {name} must be an int or None"):
            kvmap.Limits(**{name: wrong})  # type: ignore[arg-type]
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"limit {name} must be at least 1"):
            kvmap.Limits(**{name: wrong})


@on_disk
def test_read_only_changes_no_settings(path: Path) -> None:
    with kvmap.open(path) as d:
        d["ada"] = 1
    before = files_of(path)
    for options in ({"ttl": 5}, {"limits": kvmap.Limits(key_chars=5)}):
        with pytest.raises(ValueError, match=r'flag "r" can.t change them'):
            kvmap.open(path, "r", **options)
    with kvmap.open(path, "r") as d:
        for write in (
            lambda: d.__setitem__("bob", 1),
            lambda: d.__delitem__("ada"),
            d.clear,
            d.popitem,
            d.compact,
            d.purge,
        ):
            with pytest.raises(kvmap.ReadOnlyError, match='flag "r"'):
                write()
        assert dict(d) == {"ada": 1}
    assert {**files_of(path), "lock": b""} == {**before, "lock": b""}
