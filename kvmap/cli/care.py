"""Commands that look after a whole store. Each returns the exit code."""

from __future__ import annotations

import math
import sys
from argparse import Namespace
from dataclasses import asdict
from typing import Any

import kvmap
from kvmap.cli import screen
from kvmap.cli.keys_given import write_json
from kvmap.cli.places import is_there, must_have_files, open_to_read, open_to_write, shown
from kvmap.cli.progress import Progress
from kvmap.cli.quantities import amount, size
from kvmap.cli.words import Refused, command, refusing
from kvmap.cli.writing import seconds
from kvmap.limits import Limits
from kvmap.moving import durations
from kvmap.settings import Settings


def compact(args: Namespace) -> int:
    with open_to_write(args.store, args.timeout, whole=True) as d:
        before = d.stats()
        with Progress("compact", "bytes") as progress:
            d.compact(progress)
        after = d.stats()
    freed = before.dead_bytes - after.dead_bytes
    if args.json:
        write_json({"freed_bytes": freed, "live_bytes": after.live_bytes})
    screen.note(f"freed {size(freed)} of dead records, kept {size(after.live_bytes)}")
    return 0


def verify(args: Namespace) -> int:
    must_have_files(args.store, "verify")
    with Progress("verify", "bytes") as progress:
        found = kvmap.verify(args.store, progress)
    if args.json:
        write_json({"ok": found.ok, **asdict(found)})
    else:
        for each in found.damage:
            screen.write_text(_place(each))
    if found.ok:
        entries = sum([shard.records for shard in found.shards])
        screen.note(f"{args.store} is whole: {amount(entries, 'entries')}")
        return 0
    count = len(found.damage)
    screen.say(
        f"{args.store} is damaged in {count:,} place{'s' if count > 1 else ''}; "
        f"{command('repair', args.store)} keeps what is whole"
    )
    return 1


def repair(args: Namespace) -> int:
    must_have_files(args.store, "repair")
    with Progress("repair", "bytes") as progress:
        done = kvmap.repair(args.store, progress, codec=args.codec or "json")
    if args.json:
        write_json(asdict(done))
    else:
        for each in done.quarantined:
            screen.write_text(f"{_place(each.damage)}; moved to {each.kept}")
        # A file may be gone, or cut short.
        moved = {(each.damage.file, each.damage.reason) for each in done.quarantined}
        for damage in done.found.damage:
            if (damage.file, damage.reason) not in moved:
                screen.write_text(f"{_place(damage)}; nothing is left of it")
    lost = ""
    if done.new_manifest:
        codec = args.codec or "json"
        lost = f", its limits and default time to live are gone, and its codec is {codec}"
    screen.note(f"{args.store} is whole: {done.records:,} records kept{lost}")
    return 0


def _place(damage: kvmap.Damage) -> str:
    return f"{damage.file}, byte {damage.offset}, {damage.length:,} bytes: {damage.reason}"


def backup(args: Namespace) -> int:
    must_have_files(args.store, "back up")
    with open_to_read(args.store, 0, whole=True) as d:
        with Progress("backup", "bytes") as progress, refusing():  # a target inside the store
            d.backup(args.target, progress)
        copied = amount(len(d), "entries")
    screen.note(f"copied {copied} to {args.target}")
    return 0


def config(args: Namespace) -> int:
    changed = args.ttl is not None or args.evict is not None or args.limits
    made = {name: getattr(args, name) for name in ("codec", "shards") if getattr(args, name)}
    if not changed and not made:
        with open_to_read(args.store, args.timeout) as d:
            settings = d.settings
    else:
        if made and is_there(args.store, args.timeout):
            raise Refused(f"{shown(args.store)} is there; --codec and --shards are for a new store")
        with open_to_write(args.store, args.timeout, new=True, **made) as d:
            if changed:
                with refusing():
                    _configure(d, args)
            settings = d.settings
    if args.json:
        write_json(settings.to_json())
    elif not changed and not made:
        screen.write_text(shown(args.store))
        for name, value in _in_rows(settings):
            screen.write_text(f"  {name:<13}  {value}")
    return 0


def _configure(d: kvmap.KVMap[Any, Any], args: Namespace) -> None:
    kept = d.settings
    limits = {**kept.to_json()["limits"], **args.limits}
    options: dict[str, Any] = {"limits": Limits(**limits), "ttl": seconds(args.ttl)}
    if args.evict is not None:
        options["evict"] = None if args.evict == "none" else args.evict
    d.configure(**options)


def _in_rows(settings: Settings) -> list[tuple[str, str]]:
    """The options that make these settings."""
    rows = [("--ttl", "forever" if settings.ttl == math.inf else durations.write(settings.ttl))]
    for name in ("entries", "store_bytes", "value_bytes", "key_chars"):
        bound = getattr(settings.limits, name)
        rows.append((f"--{name.replace('_', '-')}", "none" if bound is None else str(bound)))
    rows.append(("--evict", settings.evict or "none"))
    rows.append(("--codec", settings.codec))
    return rows


def completion(args: Namespace) -> int:
    from kvmap.cli.arguments import parser

    try:
        import shtab
    except ImportError:
        raise Refused(
            "completion needs the package shtab: `pip install shtab`, or kvmap with its extra `cli`"
        ) from None
    top = parser()
    for action in top.every_action():
        # A store is a directory; what is loaded may be a file, too.
        if action.dest in ("store", "target"):
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.dest == "source":
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    screen.write_text(shtab.complete(top, shell=args.shell).rstrip("\n"))
    if sys.stdout is not None and sys.stdout.isatty():
        screen.note(
            f"save this where {args.shell} finds completions; `kvmap completion -h` says where"
        )
    return 0
