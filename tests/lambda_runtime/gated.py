"""A sync in a Lambda that is stopped at a point which the test chooses, however fast the machine is."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

from command_line.gate import Gate
from lambda_runtime.handlers import RESERVE
from lambda_runtime.runtime_api import Answer, LambdaContainer

__all__ = ["HANG", "RESERVE", "gated", "run_until_its_deadline"]

HANG = 120
"""Seconds that only what hangs takes."""


@contextmanager
def gated(environment: dict[str, str], *, requests: int) -> Iterator[tuple[Gate, dict[str, str]]]:
    """A way to DynamoDB that holds what is written after so many requests, and the environment that leads to it."""
    with Gate(environment["AWS_ENDPOINT_URL"], open_for=requests) as gate:
        yield gate, environment | {"AWS_ENDPOINT_URL_DYNAMODB": gate.endpoint}


def run_until_its_deadline(function: LambdaContainer, gate: Gate, seconds: float) -> Answer:
    """An invocation that may work for so long; what it writes after the first requests is held until that is over."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(function.invoke, {}, timeout=seconds + RESERVE)
        running.add_done_callback(lambda _: gate.reached.set())  # a slow machine doesn't get there in that time
        assert gate.reached.wait(HANG)
        # Its time began before it came here, so that it is over when as much has passed again.
        wait([running], timeout=seconds)
        gate.open()
        return running.result()
