"""`python -m kvmap`: the same as the `kvmap` command."""

from kvmap.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
