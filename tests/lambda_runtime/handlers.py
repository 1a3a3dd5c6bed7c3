"""Handlers for the tests of the Runtime API."""

import os
import threading
import warnings

RESERVE = 20
"""Seconds of an invocation that the handler of ``patient`` keeps for its end."""
starts = 0


def echo(event, context):
    global starts  # noqa: PLW0603 - what lives as long as the container does
    starts += 1
    print("got", event)  # noqa: T201 - goes to the container's log
    return {
        "event": event,
        "start": starts,
        "request_id": context.aws_request_id,
        "left": context.get_remaining_time_in_millis(),
        "function": context.function_name,
        "memory": context.memory_limit_in_mb,
        "arn": context.invoked_function_arn,
    }


def environment(_event, _context):
    return dict(os.environ)


def fail(event, _context):
    raise ValueError(f"cannot take {event['what']}")


def wait(event, _context):
    """Wait for what never comes."""
    print("waiting for", event)  # noqa: T201
    threading.Event().wait()


def leave(_event, _context):
    os._exit(3)


def warn(_event, _context):
    warnings.warn("old", DeprecationWarning, stacklevel=1)
