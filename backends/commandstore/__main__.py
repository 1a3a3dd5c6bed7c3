"""``python -m commandstore``: the command line."""

from commandstore.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
