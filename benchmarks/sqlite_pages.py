"""That a page at the end of a large SQLite database costs about what the first one does, in every generation.

    uv run python benchmarks/sqlite_pages.py [--count 1000000]

For each generation of comby's table: the median time of ten pages of 1,000 commands at the start and at the end, in
both directions, and of the sync's own walk (feed). Pages at the end are asked for by the key of a row that far.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from commandstore import CommandQuery, open_store
from commandstore.contract import Backend, Key, Slice, Window
from commandstore.drive import run
from commandstore.testing.comby import GENERATIONS, create_sqlite, insert_sqlite, sample_commands

PAGE = 1000
PAGES = 10


def walk(read: Callable[[Key | None], Slice], key: Key | None) -> tuple[float, Key | None]:
    """The median milliseconds of some pages after a key, and the key behind them."""
    times = []
    for _ in range(PAGES):
        began = time.perf_counter()
        found = read(key)
        times.append((time.perf_counter() - began) * 1000)
        key = found.next_key
    return statistics.median(times), key


def start_and_end(read: Callable[[Key | None], Slice], last: Key) -> tuple[float, float]:
    read(None)  # what is made once a walk is not a page's cost
    return walk(read, None)[0], walk(read, last)[0]


def measure(backend: Backend, count: int) -> list[float]:
    window = Window(0, count)
    every = CommandQuery()

    def page(query: CommandQuery) -> Callable[[Key | None], Slice]:
        return lambda key: run(backend.page(query, key, PAGE))

    def feed(key: Key | None) -> Slice:
        return run(backend.feed(every, window, key, PAGE))

    # The key of a row that many rows before the end: found from the other side.
    descending = CommandQuery(ascending=False)
    first = run(backend.page(every, None, PAGE * (PAGES + 1))).rows[-1].key
    last = run(backend.page(descending, None, PAGE * (PAGES + 1))).rows[-1].key
    results = [*start_and_end(page(every), last), *start_and_end(page(descending), first)]
    results += start_and_end(feed, (last[0], last[-1]))
    run(backend.feed_end())
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    count = parser.parse_args().count
    heads = ("ascending", "descending", "feed")
    print(f"{count:,} commands, milliseconds a page of {PAGE:,}: start / end")
    print(f"{'generation':<12}" + "".join(f"{head:>18}" for head in heads))
    with tempfile.TemporaryDirectory() as folder:
        for generation in GENERATIONS:
            path = Path(folder) / "app.db"
            create_sqlite(path, generation)
            insert_sqlite(path, sample_commands(count, tenants=3, ties=1000))
            with open_store(f"sqlite:///{path}", read_only=True) as store:
                found = measure(store.core.backend, count)
            pairs = [f"{found[at]:.1f} / {found[at + 1]:.1f}" for at in (0, 2, 4)]
            print(f"{generation:<12}" + "".join(f"{pair:>18}" for pair in pairs), flush=True)
            for file in Path(folder).iterdir():
                file.unlink()


if __name__ == "__main__":
    main()
