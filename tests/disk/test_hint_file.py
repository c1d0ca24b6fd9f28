"""The hint file saves reading the shards; without it, or with a wrong one, nothing is lost."""

import base64
import json
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
from invariants import check
from model import contents
from on_disk import open_on, snapshot_on
from simulated import Disk
from watched import Watched

import kvmap
from kvmap import disk as disk_engine
from kvmap import keys
from kvmap.disk.records import sealed
from kvmap.disk.tuning import Tuning
from kvmap.keys import bucket

SMALL = Tuning(hint_bytes=10)
HINT = "/store/index.jsonl"

KEYS: list[Any] = [*(f"key {i}" for i in range(40)), 1, 2.5, None, ("a", (1, None))]


class Reading(Watched):
    """Counts the bytes that are read."""

    count = 0

    def pread(self, descriptor: int, size: int, offset: int) -> bytes:
        data = self.real.pread(descriptor, size, offset)
        self.count += len(data)
        return data


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def model(disk: Disk) -> dict[Any, Any]:
    """What the store holds, closed, with a hint file."""
    with open_on(disk, shards=4, tuning=SMALL) as d:
        for number, key in enumerate(KEYS):
            d[key] = number
        d["key 3"] = "overwritten"
        del d["key 5"]
        d["key 5"] = "at the end"
        d.set("timed", [1], ttl=100)
        d["large"] = "x" * 10_000
        found = dict(d)
    assert HINT in disk.state()
    return found


def used(disk: Disk) -> bool:
    """Whether `len` takes the hint file, and reads little more."""
    copy = disk.copy()
    reading = Reading(copy)
    with open_on(reading, "/store", "r", tuning=SMALL) as d:
        len(d)
    shards = sum(len(data) for name, data in disk.state().items() if "/shards/" in name)
    return reading.count < shards / 2 + len(disk.state().get(HINT, b""))


def assert_holds(disk: Disk, expected: dict[Any, Any]) -> None:
    with snapshot_on(disk) as then:
        assert list(then.items()) == list(expected.items())
    for flag in ("r", "c"):
        with open_on(disk, "/store", flag, tuning=SMALL) as d:
            assert len(d) == len(expected)
            assert list(d) == list(expected)
            assert list(d.items()) == list(expected.items())
            check(d, disk)
    assert disk_engine.verify("/store", fs=disk).ok


def test_it_is_used(disk: Disk, model: dict[Any, Any]) -> None:
    before = disk.state()
    assert used(disk)
    assert_holds(disk, model)
    after = disk.state()
    for state in (before, after):
        state.pop("/store/kvmap.json")
    assert after == before
    with open_on(disk, "/store", "r") as d:
        assert d.ttl("timed") == 100
        assert d.ttl("key 3") is None
        assert [type(key) for key in d] == [type(key) for key in model]


def test_deadlines_go_on(disk: Disk, model: dict[Any, Any]) -> None:
    disk.wait(101)
    del model["timed"]
    assert used(disk)
    assert_holds(disk, model)


def test_a_small_store_has_none(disk: Disk) -> None:
    with open_on(disk) as d:
        d.update(dict.fromkeys(map(str, range(9)), 0))
        assert len(d) == 9
    assert HINT not in disk.state()


def test_bytes_decide_and_not_entries(disk: Disk) -> None:
    """5,000 values of 16 KB took 85 ms to count after reopening, once: they were too few."""
    with open_on(disk) as d:
        d.update(dict.fromkeys(range(60), "x" * 16000))
        assert len(d) == 60
    assert HINT in disk.state()
    reading = Reading(disk)
    with open_on(reading) as d:
        assert len(d) == 60
    assert reading.count < 50_000


def test_it_does_not_go_stale_by_use(disk: Disk) -> None:
    """Write, close, write 1/16 more, close, `len`, close: it was written anew and never used, once."""
    with open_on(disk, shards=4, tuning=SMALL) as d:
        d.update(dict.fromkeys(range(320), "x" * 100))
        len(d)
    for session in range(6):
        with open_on(disk, tuning=SMALL) as d:
            d.update({f"{session} {number}": "x" * 100 for number in range(20)})
            if session % 2:
                len(d)
        assert disk_engine.verify("/store", fs=disk).ok
        assert used(disk), session


@pytest.mark.parametrize("flag", ["r", "c"])
def test_sessions_that_do_not_count_leave_it_usable(
    disk: Disk, model: dict[Any, Any], flag: str
) -> None:
    for _ in range(5):
        with open_on(disk, "/store", flag, tuning=SMALL) as d:
            assert d["key 1"] == model["key 1"]
        assert used(disk)
    for number in range(30):
        with open_on(disk, tuning=SMALL) as d:
            d[f"new {number}"] = model[f"new {number}"] = number
    with open_on(disk, tuning=SMALL) as d:
        assert len(d) == len(model)
    assert used(disk)
    assert_holds(disk, model)


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


SIZE = 30
"""Bytes of a packed entry."""


def _change(content: dict[str, Any], **fields: int) -> None:
    """Change the first entry of a line."""
    packed = bytearray(base64.b64decode(content["entries"]))
    layout = {"start": ("<I", 0), "shard": ("<H", 16), "place": ("<Q", 18)}
    for name, value in fields.items():
        form, at = layout[name]
        struct.pack_into(form, packed, at, value)
    content["entries"] = base64.b64encode(packed).decode()


def _swap(content: dict[str, Any]) -> None:
    """Let each key have the entry of another one."""
    packed = base64.b64decode(content["entries"])
    content["entries"] = base64.b64encode(packed[SIZE:] + packed[:SIZE]).decode()


FORGED: dict[str, Callable[[bytes], bytes]] = {
    "one shard less": _resealed(-1, lambda content: content["shards"].pop()),
    "no shards": _resealed(-1, lambda content: content.clear()),
    "lengths of a wrong type": _resealed(
        -1, lambda content: content.update(shards=[["1", "x", 1, 1]] * 4)
    ),
    "lengths out of range": _resealed(
        -1, lambda content: content.update(shards=[[2**40, "x", 1, 1]] * 4)
    ),
    "negative lengths": _resealed(-1, lambda content: content["shards"][0].__setitem__(0, -5)),
    "other live bytes": _resealed(-1, lambda content: content["shards"][0].__setitem__(2, 7)),
    "a later sequence number": _resealed(
        -1, lambda content: [each.__setitem__(3, 2**53) for each in content["shards"]]
    ),
    "an entry of another shard": _resealed(0, lambda content: _change(content, shard=3)),
    "an entry of no shard": _resealed(0, lambda content: _change(content, shard=77)),
    "an entry beyond the file": _resealed(0, lambda content: _change(content, start=2**31)),
    "an entry of another key's value": _resealed(0, lambda content: _swap(content)),
    "a key twice": _resealed(0, lambda content: content["keys"].__setitem__(1, content["keys"][0])),
    "another order": _resealed(0, lambda content: _change(content, place=2**40)),
    "no array of keys": _resealed(0, lambda content: content.update(keys=3)),
    "an object as a key": _resealed(0, lambda content: content["keys"].__setitem__(0, {})),
    "entries of a wrong type": _resealed(0, lambda content: content.update(entries=17)),
    "an entry cut": _resealed(0, lambda content: content.update(entries=content["entries"][:-4])),
    "an entry less": _resealed(0, lambda content: content.update(entries=content["entries"][40:])),
    "a deadline too many": _resealed(0, lambda content: content["expires"].append([1000, 5])),
    "a deadline of a wrong type": _resealed(0, lambda content: content.update(expires=[[0, "5"]])),
    "no fields": _resealed(0, lambda content: content.clear()),
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
def test_a_wrong_one_serves_nothing_wrong_and_is_no_damage(
    disk: Disk, model: dict[Any, Any], damage: Callable[[bytes], bytes]
) -> None:
    """With a right checksum, too: who can write that can write the shards; but no value is false."""
    disk.put(HINT, damage(disk.state()[HINT]))
    assert disk_engine.verify("/store", fs=disk).ok
    for key, value in model.items():
        with open_on(disk.copy(), "/store", "r", tuning=SMALL) as d:
            len(d)  # which believes it, as `in` does
            assert d.get(key) == value
        with open_on(disk.copy(), "/store", "r", tuning=SMALL) as d:
            len(d)
            assert list(d) == list(model)
    copy = disk.copy()
    with open_on(copy, tuning=SMALL) as d:
        list(d.items())
        d["key 1"] = "written"
        assert list(d.items()) == list({**model, "key 1": "written"}.items())
        check(d, copy)
    with open_on(disk, tuning=SMALL) as d:
        assert list(d.items()) == list(model.items())


def test_one_that_disagrees_with_a_forged_shard_is_stale(disk: Disk, model: dict[Any, Any]) -> None:
    """It is as long as it was, and ends as it did: `verify` said ok, and `dict(d)` KeyError."""
    name = next(
        name for name, data in disk.state().items() if "/shards/" in name and b'"key 11"' in data
    )
    lines = disk.state()[name].splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if b'"key 11"' in line)
    assert at < len(lines) - 1
    other = next(
        f"key {letter}{digit}"
        for letter in "abc"
        for digit in range(10)
        if keys.bucket(f"key {letter}{digit}", 3) == keys.bucket("key 11", 3)
    )
    text = lines[at].replace(b'"key 11"', f'"{other}"'.encode())
    lines[at] = sealed(text[: text.rindex(b',"crc"')])
    disk.put(name, b"".join(lines))
    expected = {other if key == "key 11" else key: value for key, value in model.items()}

    report = disk_engine.verify("/store", fs=disk)
    assert report.ok
    assert report.index == "stale"
    with open_on(disk.copy(), tuning=SMALL) as d:
        assert len(d) == len(expected)
        assert dict(d) == expected
        assert "key 11" not in d
    disk_engine.repair("/store", fs=disk)
    assert HINT not in disk.state()
    assert_holds(disk, expected)


def test_one_that_disagrees_with_a_shard_that_was_read_before_serves_nothing_wrong(
    disk: Disk, model: dict[Any, Any]
) -> None:
    one, two = [key for key in KEYS[10:40] if bucket(key, 3) == 0][:2]

    def swap(content: dict[str, Any]) -> None:
        packed = bytearray(base64.b64decode(content["entries"]))
        first, second = (
            slice(at * SIZE, (at + 1) * SIZE) for at in map(content["keys"].index, (one, two))
        )
        packed[first], packed[second] = packed[second], packed[first]
        content["entries"] = base64.b64encode(packed).decode()

    disk.put(HINT, _resealed(0, swap)(disk.state()[HINT]))
    with open_on(disk, tuning=SMALL) as d:
        assert d[one] == model[one]
        len(d)
        assert (d[one], d[two]) == (model[one], model[two])


def test_one_that_counts_other_live_bytes_than_its_entries_have_is_stale(
    disk: Disk, model: dict[Any, Any]
) -> None:
    disk.put(HINT, FORGED["other live bytes"](disk.state()[HINT]))
    assert disk_engine.verify("/store", fs=disk).index == "stale"


def test_verify_says_that_it_is_used(disk: Disk, model: dict[Any, Any]) -> None:
    assert disk_engine.verify("/store", fs=disk).index == "in use"
    disk_engine.repair("/store", fs=disk)
    assert used(disk)


def test_a_removed_one_is_missed_by_nobody(disk: Disk, model: dict[Any, Any]) -> None:
    directory = disk.open_directory("/store")
    disk.remove(directory, "index.jsonl")
    disk.close(directory)
    assert not used(disk)
    assert_holds(disk, model)
    with open_on(disk, tuning=SMALL) as d:
        d["new"] = 1
        assert len(d) == len(model) + 1
    assert used(disk)
    assert_holds(disk, {**model, "new": 1})


def test_an_old_one_put_back_is_brought_up_to_date_or_ignored(
    disk: Disk, model: dict[Any, Any]
) -> None:
    old = disk.state()[HINT]
    with open_on(disk, tuning=SMALL) as d:
        for number in range(100):
            d[f"new {number}"] = model[f"new {number}"] = number
        d["key 1"] = model["key 1"] = "later"
        del d["key 2"], model["key 2"]
        len(d)
    assert disk.state()[HINT] != old
    disk.put(HINT, old)
    assert_holds(disk, model)


def test_an_old_one_put_back_after_a_compaction(disk: Disk, model: dict[Any, Any]) -> None:
    old = disk.state()[HINT]
    with open_on(disk, tuning=SMALL) as d:
        for key in [*model][:20]:
            d[key] = model[key] = "later"
        d.compact()
    disk.put(HINT, old)
    assert_holds(disk, model)


@pytest.mark.parametrize("reads_all", [False, True])
def test_shards_that_grew_since(disk: Disk, model: dict[Any, Any], reads_all: bool) -> None:
    with open_on(disk, tuning=SMALL) as d:
        if reads_all:
            assert len(d) == len(model)
        d["key 7"] = model["key 7"] = 7
        del d["key 8"], model["key 8"]
    assert_holds(disk, model)
    with open_on(disk, tuning=SMALL) as d:
        del d["key 9"], model["key 9"]
        d["key 9"] = model["key 9"] = "later"
    assert_holds(disk, model)


def test_compacted_shards_make_it_stale(disk: Disk, model: dict[Any, Any]) -> None:
    with open_on(disk, tuning=SMALL) as d:
        for key in list(d)[:30]:
            del d[key], model[key]
        d.compact()
        check(d, disk)
    assert_holds(disk, model)


def test_one_shard_compacted_since_is_read_anew(disk: Disk, model: dict[Any, Any]) -> None:
    """The hint file serves for the others; keys that it names there may be gone without a trace."""
    with open_on(disk, tuning=SMALL) as d:
        d.compact()  # nothing is dead, so that the next one changes one shard alone
    before = disk.state()
    with open_on(disk, tuning=SMALL) as d:
        # In another shard than the large value, for the hint file serves where it covers half.
        shard = next(number for number in range(4) if number != bucket("large", 3))
        gone = [key for key in d if bucket(key, 3) == shard][1:]
        assert len(gone) > 4
        for key in gone:
            del d[key], model[key]
        d.compact()
        d["last"] = model["last"] = 1
        live = d.stats().live_bytes
        left = disk.copy()
    changed = [name for name in before if left.state()[name][:99] != before[name][:99]]
    assert [name for name in changed if "/shards/" in name] == [changed[-1]]
    assert left.state()[HINT] == before[HINT]
    with open_on(left.copy(), "/store", "r", tuning=SMALL) as d:
        assert len(d) == len(model)
        assert d.stats().live_bytes == live
        assert list(d) == list(model)
    assert_holds(left, model)


def test_after_a_kill_it_serves_too(disk: Disk, model: dict[Any, Any]) -> None:
    with open_on(disk, tuning=SMALL) as d:
        d["last"] = model["last"] = "words"
        copy = disk.copy()
    assert_holds(copy, model)


def test_a_shard_damaged_since_is_found_out(disk: Disk, model: dict[Any, Any]) -> None:
    # With the hint file, the shards are not read; so it must be each read that checks.
    for name, data in disk.state().items():
        if "/shards/" in name:
            at = data.index(b'"value":') + len(b'"value":')
            disk.put(name, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with open_on(disk, tuning=SMALL) as d:
        assert len(d) == len(model)
        wrong = 0
        for key, value in model.items():
            try:
                assert d[key] == value
            except kvmap.CorruptStoreError as error:
                assert error.file.startswith("/store/shards/")
                wrong += 1
        assert wrong >= 4


def test_side_by_side_with_a_dict(disk: Disk) -> None:
    chance = random.Random(5)
    model: dict[Any, Any] = {}
    for _ in range(150):
        with open_on(disk, shards=4, tuning=SMALL) as d:
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
                check(d, disk)
            left = disk.copy()
        if chance.randrange(6) == 0:
            disk = left
    with open_on(disk, tuning=SMALL) as d:
        assert [(key, value) for key, value, _ in contents(d)] == list(model.items())
