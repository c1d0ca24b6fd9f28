"""Values of several types, checked on their way in and out, with msgspec.

    pip install '.[types]'
    python examples/msgspec_values.py [STORE]

msgspec knows datetimes, UUIDs, enums, sets and more, and tells the members of a union apart by a
tag. STORE is a directory, and stays; without it, a temporary one is used.
"""

import sys
import tempfile
from datetime import UTC, datetime
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


def events(path: str) -> kvmap.KVMap[str, Event]:
    return kvmap.open(path, type=Event)


def main(path: str) -> None:
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    with events(path) as d:
        order = Order(uuid5(SHOP, "1"), noon, {"tea", "milk"})
        d["1"] = order
        d["2"] = Refund(order.id, noon)
        assert d["1"] == order  # datetime, UUID and set come back as they were

        for key, event in d.items():
            match event:
                case Order(items=items):
                    print(f"event {key}  bought {', '.join(sorted(items))}")
                case Refund(order=of):
                    print(f"event {key}  money back for {of}")

    with kvmap.open(path) as raw:  # without the type: plain JSON, and no checks
        print(f"on disk  {sorted(raw['1']['items'])} {raw['1']['at']}")
        raw["2"] = {"type": "refund", "order": "?"}

    with events(path) as d:
        try:
            d["2"]
        except ValueError as error:
            print(f"refused  {error}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as directory:
            main(f"{directory}/events")
