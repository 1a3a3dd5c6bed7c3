"""The AWS Lambda functions: an event comes in, the library does the work, and logs and metrics say what it was.

| handler              | does                                                   | called by                        |
|----------------------|--------------------------------------------------------|----------------------------------|
| `handler`            | a sync, in time before the deadline                    | a schedule, every few minutes    |
| `verify_handler`     | compares the last hours in source and destination      | a schedule of its own            |
| `plan_handler`       | cuts a backfill into ranges                            | the state machine of a backfill  |
| `copy_range_handler` | copies a range, or as much as there is time for        | the same, again until it is done |
| `finish_handler`     | hands over to the scheduled sync                       | the same, at its end             |

What they are told stands in ``settings.py``. A handler raises when commands failed or differ, so that an alarm sees it;
asynchronous retries are to be 0, since the next schedule is the retry. No payload, password or key is ever logged.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import orjson
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from commandstore.command import INT64_MAX, INT64_MIN
from commandstore.core import is_int
from commandstore.entrypoints.container import Container, preload
from commandstore.entrypoints.settings import (
    PlanEvent,
    PlanId,
    RangeEvent,
    SyncEvent,
    SyncSettings,
    VerifyEvent,
    read_event,
    read_settings,
)
from commandstore.errors import CommandStoreError, ConfigurationError, LeaseHeld, StoreUnavailable, SyncError
from commandstore.replication import (
    DEFAULT_LAG,
    Range,
    SyncReport,
    VerifyReport,
    copy_range,
    finish_backfill,
    plan_backfill,
    sync_command_store,
    verify_command_stores,
)
from commandstore.store import CommandStore

__all__ = ["copy_range_handler", "finish_handler", "handler", "plan_handler", "verify_handler"]

_NANOSECONDS = 10**9
_HOUR = 3600 * _NANOSECONDS

NAMED = 20
"""How many failures an answer and a log line name; the metrics count them all."""

RESERVE = 0.5
"""Seconds of an invocation that are kept for its end: giving the lease back, the last log line."""

SETTLING = 30.0
"""Seconds that a verification keeps for the page that it reads, and a second look at what it found there."""

logger = Logger(service=None)
_container = Container()
preload()

Answer = dict[str, Any]
_Handler = Callable[[Any, Any], Answer]


def _invocation(work: Callable[[SyncSettings, Any, Callable[[], float], Metrics], Answer]) -> _Handler:
    """What all handlers do around their work: settings, deadline, metrics, and errors without what is secret."""

    @functools.wraps(work)
    def handle(event: Any, context: Any) -> Answer:
        def time_left() -> float:
            return float(context.get_remaining_time_in_millis()) / 1000 - RESERVE

        logger.append_keys(request_id=context.aws_request_id, function=context.function_name)
        metrics = None
        try:
            settings = read_settings()
            metrics = Metrics(namespace=settings.metrics_namespace)
            answer = work(settings, event, time_left, metrics)
        except CommandStoreError as error:
            kinds = {
                "error": type(error).__name__,
                "cause": type(error.__cause__).__name__ if error.__cause__ else None,
            }
            logger.error("%s", error, extra=kinds)  # noqa: TRY400 - a traceback shows causes
            # The causes of an error are an SDK's or a driver's, which may show what they were given.
            raise error.with_traceback(None) from None
        finally:
            if metrics is not None and metrics.metric_set:
                metrics.flush_metrics()
        logger.info("done", extra={"answer": answer})
        return answer

    return handle


# The scheduled sync


@_invocation
def handler(settings: SyncSettings, event: Any, time_left: Callable[[], float], metrics: Metrics) -> Answer:
    """Copy what is new, until all is done or the time is nearly up; see :class:`SyncEvent`.

    Raises:
        ConfigurationError: a setting or the event can't be right; nothing was touched.
        SyncError: the run stopped before its end, or commands failed or conflict.
    """
    asked = read_event(SyncEvent, event)
    tenant = asked.tenant_uuid if asked.tenant_uuid is not None else settings.tenant_uuid

    narrowed = asked.tenant_uuid is not None or asked.start_after_time is not None

    def work(source: CommandStore, destination: CommandStore) -> SyncReport:
        return sync_command_store(
            source,
            destination,
            batch_size=asked.batch_size or settings.batch_size,
            tenant_uuid=tenant,
            skip_on_error=settings.skip_on_error,
            start_after_time=asked.start_after_time,
            dry_run=asked.dry_run,
            lag=DEFAULT_LAG if settings.lag is None else settings.lag,
            concurrency=settings.concurrency,
            source_name=settings.source_name,
            time_left=time_left,
            lease_seconds=settings.lease_seconds,
        )

    try:
        report = _container.run(settings, work)
    except LeaseHeld as held:
        logger.info("skipped: %s", held)
        metrics.add_metric("Skipped", MetricUnit.Count, 1)
        return {"skipped": "lease held"}
    except SyncError as error:
        if error.report is not None:
            _measure(metrics, error.report, narrowed=narrowed)
            logger.info("stopped", extra={"report": _shown(error.report)})
        raise
    answer = _shown(report)
    if not report.dry_run:
        _measure(metrics, report, narrowed=narrowed)
    if report.failed:
        _container.commands_failed()
    if report.failed or report.conflicts:
        logger.info("commands failed or conflict", extra={"report": answer})
        raise SyncError(
            f"{report.failed} commands failed and {report.conflicts} conflict: {_named(report)}", report=report
        )
    if asked.verify and report.complete and not report.dry_run:
        answer["verify"] = _verified(settings, VerifyEvent(tenant_uuid=tenant), time_left, metrics)
    return answer


def _measure(metrics: Metrics, report: SyncReport, *, narrowed: bool) -> None:
    for name, count in (
        ("Copied", report.copied),
        ("Duplicates", report.duplicates),
        ("Conflicts", report.conflicts),
        ("Failed", report.failed),
        ("Remaining", report.remaining or 0),
    ):
        metrics.add_metric(name, MetricUnit.Count, count)
    metrics.add_metric("DurationSeconds", MetricUnit.Seconds, report.seconds)
    # Before the first run that came to its end there is no lag to tell; a metric that is missing is an alarm as well.
    # That a part has been copied says nothing of the whole.
    if report.caught_up is not None and not narrowed:
        metrics.add_metric("LagSeconds", MetricUnit.Seconds, (time.time_ns() - report.caught_up) / _NANOSECONDS)


# Verification


@_invocation
def verify_handler(settings: SyncSettings, event: Any, time_left: Callable[[], float], metrics: Metrics) -> Answer:
    """Compare a range of time in source and destination; see :class:`VerifyEvent`.

    Raises:
        ConfigurationError: a setting or the event can't be right; nothing was touched.
        SyncError: they differ.
    """
    return _verified(settings, read_event(VerifyEvent, event), time_left, metrics)


def _verified(settings: SyncSettings, asked: VerifyEvent, time_left: Callable[[], float], metrics: Metrics) -> Answer:
    """Compare, measure, and raise where they differ, or where not all was compared."""
    hours = asked.hours if asked.hours is not None else settings.verify_hours
    end = asked.before if asked.before is not None else time.time_ns()
    # What the next sync will bring is no difference to wake somebody for.
    before = asked.before if asked.before is not None else end - DEFAULT_LAG

    def work(source: CommandStore, destination: CommandStore) -> VerifyReport:
        return verify_command_stores(
            source,
            destination,
            tenant_uuid=asked.tenant_uuid if asked.tenant_uuid is not None else settings.tenant_uuid,
            after=asked.after if asked.after is not None else end - int(hours * _HOUR),
            before=before,
            time_left=lambda: time_left() - SETTLING,
        )

    report = _container.run(settings, work)
    for name, count in (("Missing", report.missing), ("Extra", report.extra), ("Altered", report.altered)):
        metrics.add_metric(name, MetricUnit.Count, count)
    answer = _shown(report)
    if report.failed:
        _container.commands_failed()
    if not report.clean:
        logger.info("not clean", extra={"report": answer})
        raise SyncError(_difference(report))
    return answer


def _difference(report: VerifyReport) -> str:
    said = []
    if report.findings:
        said.append(
            f"source and destination differ: {report.missing} missing, {report.extra} extra, {report.altered} altered, "
            f"{report.failed} unreadable: {', '.join(finding.command_uuid for finding in report.findings[:NAMED])}"
        )
    if not report.complete:
        said.append(
            f"the time was up: nothing after {report.reached} was compared; ask for fewer hours "
            "(COMMANDSTORE_VERIFY_HOURS), or give the function more time"
        )
    return "; ".join(said)


# Backfill


@_invocation
def plan_handler(settings: SyncSettings, event: Any, time_left: Callable[[], float], metrics: Metrics) -> Answer:  # noqa: ARG001
    """Cut what is to be copied into ranges; see :func:`plan_backfill`."""
    asked = read_event(PlanEvent, event)
    plan = _container.run(
        settings,
        lambda source, destination: plan_backfill(
            source,
            destination,
            commands_per_range=asked.commands_per_range,
            tenant_uuid=settings.tenant_uuid,
            source_name=settings.source_name,
        ),
    )
    return {"plan": plan.plan, "ranges": [_range_out(piece) for piece in plan.ranges]}


@_invocation
def copy_range_handler(settings: SyncSettings, event: Any, time_left: Callable[[], float], metrics: Metrics) -> Answer:
    """Copy a range, or as much of it as there is time for; see :func:`copy_range`."""
    piece = _range_in(read_event(RangeEvent, event))

    def work(source: CommandStore, destination: CommandStore) -> tuple[SyncReport, Range]:
        return copy_range(
            source,
            destination,
            piece,
            batch_size=settings.batch_size,
            concurrency=settings.concurrency,
            tenant_uuid=settings.tenant_uuid,
            source_name=settings.source_name,
            skip_on_error=settings.skip_on_error,
            time_left=time_left,
        )

    def measure(report: SyncReport) -> None:
        for name, count in (("Copied", report.copied), ("Conflicts", report.conflicts), ("Failed", report.failed)):
            metrics.add_metric(name, MetricUnit.Count, count)

    try:
        report, rest = _container.run(settings, work)
    except SyncError as error:
        if error.report is not None:
            measure(error.report)
        if isinstance(error.__cause__, StoreUnavailable):
            # The state machine begins a range again by the name of its error, and this one is worth it.
            raise type(error.__cause__)(str(error)) from error
        raise
    measure(report)
    if report.failed:
        _container.commands_failed()
    counts = ("read", "copied", "duplicates", "conflicts", "failed")
    if report.conflicts:
        logger.warning("conflicts", extra={"failures": _named(report)})
    return {**_range_out(rest), "complete": report.complete, **{name: getattr(report, name) for name in counts}}


@_invocation
def finish_handler(settings: SyncSettings, event: Any, time_left: Callable[[], float], metrics: Metrics) -> Answer:  # noqa: ARG001
    """Write the horizon as the checkpoint, once all ranges are complete; see :func:`finish_backfill`."""
    asked = read_event(PlanId, event)
    settled = _container.run(
        settings,
        lambda source, destination: finish_backfill(
            source,
            destination,
            asked.plan,
            tenant_uuid=settings.tenant_uuid,
            source_name=settings.source_name,
            lag=DEFAULT_LAG if settings.lag is None else settings.lag,
        ),
    )
    return {"plan": asked.plan, "settled": str(settled)}


def _range_out(piece: Range) -> Answer:
    after = None if piece.after is None else orjson.dumps(list(piece.after)).decode()
    return {"plan": piece.plan, "low": str(piece.low), "high": str(piece.high), "after": after}


def _range_in(asked: RangeEvent) -> Range:
    low, high = int(asked.low), int(asked.high)
    try:
        after = None if asked.after is None else orjson.loads(asked.after)
    except ValueError:
        after = ""
    good = after is None or (isinstance(after, list) and after and all(_is_part(part) for part in after))
    if not good or not INT64_MIN <= low <= high <= INT64_MAX:
        raise ConfigurationError("the event can't be right: it is not what a plan or a call before this one handed out")
    return Range(asked.plan, low, high, None if after is None else tuple(after))


def _is_part(value: object) -> bool:
    """Whether it can be a part of a key: an int64, a text or nothing."""
    return value is None or isinstance(value, str) or (is_int(value) and INT64_MIN <= value <= INT64_MAX)  # type: ignore[operator]


# Answers


def _shown(report: SyncReport | VerifyReport) -> Answer:
    """The report, with no more names than fit into an answer."""
    answer = report.to_dict()
    for name in ("failures", "findings"):
        if name in answer:
            answer[name] = answer[name][:NAMED]
    if isinstance(report, SyncReport) and report.caught_up is not None:
        answer["lag_seconds"] = (time.time_ns() - report.caught_up) / _NANOSECONDS
    return answer


def _named(report: SyncReport) -> str:
    return "; ".join(f"{failure.command_uuid}: {failure.reason}" for failure in report.failures[:NAMED])
