"""Values of several types, validated on their way out, with msgspec.

    pip install msgspec
    python examples/msgspec_values.py [STORE]

msgspec knows datetimes, UUIDs, enums, sets and more, and tells the members of a union apart by a
tag. STORE is a directory; it stays, so that you can look into it.
"""

import sys
import tempfile
from datetime import UTC, datetime
from functools import partial
from uuid import UUID, uuid5

import msgspec

import kvmap

SHOP = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


class Order(msgspec.Struct, tag="order"):
    id: UUID
    at: datetime
    items: set[str]


class Refund(msgspec.Struct, tag="refund"):
    order: UUID
    at: datetime


Event = Order | Refund


def decode(value: object) -> Event:
    event: Event = msgspec.convert(value, Event)  # checks every field, and says which is wrong
    return event


def events(path: str) -> kvmap.KVMap[Event]:
    # to_builtins makes of a struct what JSON can hold, and convert makes a struct of that again.
    # (msgspec.json.encode would make bytes, which are no value: kvmap writes the JSON itself.)
    return kvmap.open(path, encode=partial(msgspec.to_builtins, order="sorted"), decode=decode)


def main(path: str) -> None:
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    with events(path) as d:
        order = Order(uuid5(SHOP, "1"), noon, {"tea", "milk"})
        d["1"] = order
        d["2"] = Refund(order.id, noon)
        assert d["1"] == order  # what comes out equals what went in: datetime, UUID and set too

        for key, event in d.items():
            match event:
                case Order(items=items):
                    print(f"event {key}  bought {', '.join(sorted(items))}")
                case Refund(order=of):
                    print(f"event {key}  money back for {of}")

    with kvmap.open(path) as raw:  # without the hooks, anything that is JSON can be written
        print(f"on disk  {raw['1']['items']} {raw['1']['at']}")
        raw["2"] = {"type": "refund", "order": "?"}

    with events(path) as d:
        try:
            d["2"]
        except msgspec.ValidationError as error:
            print(f"refused  {error}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as directory:
            main(f"{directory}/events")
