"""What the Lambda handler's import costs at a cold start, against the two packages that it cannot do without.

    uv run python benchmarks/lambda_cold_start.py [--rounds 9]

Each figure is the median of fresh interpreters, the candidates in turn, so that a busy moment of the machine meets all.
The handler's budget is 1.5 times ``import boto3, sqlalchemy`` in one interpreter, which loads what both need once; it
fails above that. The last line adds the stores, which the handler imports at its start as well once its settings say
which: here those of a sync from Postgres to DynamoDB.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile

BUDGET = 1.5
HANDLER = "commandstore.entrypoints.aws_lambda"
BASE = "boto3,sqlalchemy"
STORES = "commandstore.sql.backend,psycopg,commandstore.dynamodb.backend"
CANDIDATES = {
    "boto3": "boto3",
    "sqlalchemy": "sqlalchemy",
    "boto3 and sqlalchemy": BASE,
    "the handler": HANDLER,
    "the handler and its stores": f"{HANDLER},{STORES}",
}

# The import alone, without the start of the interpreter, which Lambda's runtime has done before.
TIMED = """
import importlib, sys, time
began = time.perf_counter()
for name in sys.argv[1].split(","):
    importlib.import_module(name)
print(time.perf_counter() - began, len(sys.modules))
"""


def imported(names: str, bytecode: str) -> tuple[float, int]:
    """The seconds that imports take in a fresh interpreter, and how many modules are loaded after them."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = bytecode
    command = [sys.executable, "-c", TIMED, names]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)  # noqa: S603 - no shell
    seconds, modules = done.stdout.split()
    return float(seconds), int(modules)


def measure(rounds: int) -> tuple[dict[str, list[float]], dict[str, int]]:
    """By label the seconds of each round, and the number of modules."""
    times: dict[str, list[float]] = {label: [] for label in CANDIDATES}
    # Whether there is bytecode makes a factor of three, so it is not left to what has run here before.
    with tempfile.TemporaryDirectory() as bytecode:
        loaded = {label: imported(names, bytecode)[1] for label, names in CANDIDATES.items()}
        for _ in range(rounds):
            for label, names in CANDIDATES.items():
                times[label].append(imported(names, bytecode)[0])
    return times, loaded


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures the import of the Lambda handler.")
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    times, loaded = measure(rounds)
    base = statistics.median(times["boto3 and sqlalchemy"])

    print(f"Python {platform.python_version()}, {rounds} rounds\n")
    print(f"{'import':<30}{'median ms':>10}{'least':>8}{'most':>8}{'modules':>9}{'ratio':>8}")
    for label, found in times.items():
        median = statistics.median(found)
        least, most = min(found) * 1000, max(found) * 1000
        print(f"{label:<30}{median * 1000:>10.0f}{least:>8.0f}{most:>8.0f}{loaded[label]:>9}{median / base:>8.2f}")
    ratio = statistics.median(times["the handler"]) / base
    print(f"\nthe handler takes {ratio:.2f} times boto3 and sqlalchemy; its budget is {BUDGET}")
    return 0 if ratio <= BUDGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
