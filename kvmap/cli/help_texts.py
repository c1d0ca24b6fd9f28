"""The command line's help: for each command what it does, more about it, and examples."""

from __future__ import annotations

from typing import Final

TOP: Final = (
    "A dict that outlives its process, as plain JSON: look into a store, change it, move it."
)

TOP_EPILOG: Final = """\
examples:
  kvmap set sessions ada '{"name": "Ada"}' --ttl 1h30m
  kvmap get sessions ada
  kvmap ls sessions -l 'user:*'
  kvmap dump sessions > sessions.jsonl

A store is a directory, or a map on a server: redis://host:6379/0/name. Commands that read also work
while a program has the store open; commands that write wait with --timeout until it lets go.

Exit codes: 0 all is well; 1 a key is missing, entries were left out, or the store is damaged;
2 wrong use or refused; 130 interrupted.
"""

TIMEOUT_TO_READ: Final = "on a server: how long to wait for each answer"
TIMEOUT_TO_WRITE: Final = (
    "how long to wait for whoever has the store open (default: not at all); on a server: for each "
    "answer"
)
STATS_LIMIT: Final = "how many of the largest entries and prefixes (default: 10)"
DUMP_FORM: Final = (
    "jsonl: one entry a line (default); json: one object, without deadlines; csv, tsv: key, value "
    "and expires, which `kvmap load --json-cells` reads"
)
LOAD_FROM: Final = "what SOURCE is (default: what its name and its content say)"
LOAD_KEY: Final = (
    "the column of a CSV or TSV file that holds the keys (default: `key`, or the first)"
)
LOAD_CELLS: Final = "a cell of a CSV or TSV file that is JSON, such as 17 or true, is what it says"
LOAD_CONFLICT: Final = "at a key that is there already (default: overwrite)"
LOAD_ERROR: Final = "at an entry that can't be loaded: stop, or list it and go on (default: stop)"
REPAIR_CODEC: Final = "the store's, where its kvmap.json is lost (default: json)"
CONFIG_EVICT: Final = (
    "how room is made at --entries or --store-bytes: drop entries, or refuse the write"
)

COMMANDS: Final = {
    "get": (
        "print values as JSON",
        "One a line, in the order of the keys. Exits 1 where a key is missing.",
        """\
  kvmap get sessions ada
  kvmap get sessions -i -k '["ada", 2]'
  kvmap get sessions --json -g 'user:*'""",
    ),
    "exists": (
        "test whether keys are there",
        "Prints nothing; exits 0 where all of them are, else 1.",
        """\
  kvmap exists sessions ada && echo welcome back""",
    ),
    "count": (
        "print how many entries there are",
        "",
        """\
  kvmap count sessions
  kvmap count sessions 'user:*'""",
    ),
    "ls": (
        "list keys, in the order they were inserted",
        "A str with control characters, and\nevery key that is no str, is shown as JSON.",
        """\
  kvmap ls sessions -l 'user:*'
  kvmap ls sessions -r -n 10""",
    ),
    "ttl": (
        "print how long entries live",
        "Prints `forever` for those that stay. Exits 1 where a key\nis missing.",
        """\
  kvmap ttl sessions token""",
    ),
    "stats": (
        "show what a store is made of",
        """Reads all values to find the largest entries and
the bytes of each key prefix: what stands before the first of `:`, `/`, `|` and `(`.""",
        """\
  kvmap stats sessions
  kvmap stats sessions --json | jq .dead_bytes""",
    ),
    "set": (
        "store a value",
        "Makes the store where there is none.",
        """\
  kvmap set sessions ada '{"visits": 1}' -t 2h
  kvmap set pages front - --text < index.html""",
    ),
    "incr": (
        "add to a number and print the sum",
        "A missing key counts as 0.",
        """\
  kvmap incr sessions visits
  kvmap incr sessions stock -3""",
    ),
    "expire": (
        "give entries a new deadline",
        "Exits 1 where a key is missing.",
        """\
  kvmap expire sessions ada bob 1h30m
  kvmap expire sessions -g 'tmp:*' 10m""",
    ),
    "del": (
        "delete keys",
        "Exits 1 where one of them is missing.",
        """\
  kvmap del sessions ada bob
  kvmap del sessions -g 'tmp:*'
  kvmap ls sessions -0 -p old: | kvmap del sessions -0 -""",
    ),
    "dump": (
        "print entries, as JSON Lines or otherwise",
        "`kvmap load` reads them.",
        """\
  kvmap dump sessions > sessions.jsonl
  kvmap dump sessions | jq -c 'select(.value.visits > 9)' | kvmap load regulars -""",
    ),
    "load": (
        "read entries into a store",
        """Makes the store where there is none. Deadlines and
the order are kept. A load that was interrupted goes on when it is run again.

SOURCE is JSON Lines, {"key": …, "value": …, "expires": …} or "ttl" each; one JSON object;
CSV or TSV, with names of columns; another store, by path or URL; with --from, a tinydb file, or a
store of shelve, sqlitedict or diskcache. The last three hold pickles, and reading a pickle runs
whatever code is in it (CVE-2024-35515 for sqlitedict, CVE-2025-69872 for diskcache): load only what
you trust. Exits 1 where entries were skipped.""",
        """\
  kvmap load sessions sessions.jsonl
  kvmap load cache old_cache/ --from diskcache --on-error skip
  kvmap load redis://localhost/0/sessions sessions/""",
    ),
    "config": (
        "show or set what a store keeps about itself",
        "Without options shows it; with options\nsets it, and makes the store where there is none.",
        """\
  kvmap config cache
  kvmap config cache --ttl 1d --store-bytes 500MB --evict sieve""",
    ),
    "verify": (
        "read everything and check it",
        "Exits 1 on damage. The owner may go on writing.",
        """\
  kvmap verify sessions && echo all is well""",
    ),
    "repair": (
        "keep what is whole of a damaged store",
        "What is taken out is moved to damaged/.",
        """\
  kvmap repair sessions""",
    ),
    "compact": (
        "give back the space of dead records",
        "There is no need to: kvmap compacts as it writes.",
        """\
  kvmap compact sessions""",
    ),
    "backup": (
        "copy a store to a new directory",
        "The copy is compact, and of one moment; the owner\nmay go on writing.",
        """\
  kvmap backup sessions /mnt/backup/sessions""",
    ),
    "completion": (
        "print a script that makes a shell complete commands and options",
        "",
        """\
  kvmap completion bash > ~/.local/share/bash-completion/completions/kvmap
  kvmap completion zsh > ~/.zsh/completions/_kvmap""",
    ),
}
"""By name, in no order that matters: what it does, more about it, examples."""
