"""Runs a handler as AWS Lambda does: awslambdaric in a process of its own, asking a Runtime API for its events.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import importlib.util
import json
import os
import platform
import re
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import psutil

from commandstore.testing.engine_base import EngineUnavailable
from commandstore.testing.processes import SupervisedProcess
from secrets_said import heard

__all__ = ["Answer", "LambdaContainer"]

_VERSION = "/2018-06-01/runtime"
_OUTCOME = re.compile(rf"{_VERSION}/invocation/(?P<request_id>[^/]+)/(?P<kind>response|error)")
_INIT_SECONDS = 60.0
# How soon a process that ended by itself is noticed.
_CHECK_SECONDS = 0.05
_MODULE = "awslambdaric"


@dataclass(frozen=True)
class Answer:
    """What an invocation came to."""

    request_id: str
    seconds: float
    logs: tuple[str, ...]
    """The lines that the container has printed since the invocation began."""
    result: Any = None
    error_type: str | None = None
    """None if the handler returned."""
    error_message: str | None = None
    stack: tuple[str, ...] = ()
    timed_out: bool = False


@dataclass
class _Invocation:
    request_id: str
    body: bytes
    deadline_ms: int
    taken: bool = False
    outcome: tuple[str, Any] | None = None
    """``response`` or ``error``, and what came with it."""


class _RuntimeApi(ThreadingHTTPServer):
    """The Runtime API of one container. What happens is told to whoever waits on ``changed``."""

    # The threads are joined when the server closes; by then the container is dead, and so are their connections.
    daemon_threads = False

    def __init__(self, function_arn: str) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.function_arn = function_arn
        self.changed = threading.Condition()
        self.current: _Invocation | None = None
        self.asked_for_work = False
        self.init_error: dict[str, Any] | None = None
        self.closing = False
        # The default polls twice a second for the order to stop.
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def next_invocation(self) -> _Invocation | None:
        """Wait for work; None once the container's time is over."""
        with self.changed:
            self.asked_for_work = True
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.closing or (self.current is not None and not self.current.taken))
            if self.closing or self.current is None:
                return None
            self.current.taken = True
            return self.current

    def finish(self, request_id: str, kind: str, document: Any) -> bool:
        """Take an outcome; False for an invocation that is not running."""
        with self.changed:
            running = self.current
            if running is None or running.request_id != request_id or running.outcome is not None:
                return False
            running.outcome = (kind, document)
            self.changed.notify_all()
            return True

    def fail_init(self, document: dict[str, Any]) -> None:
        with self.changed:
            self.init_error = document
            self.changed.notify_all()


class _Requests(BaseHTTPRequestHandler):
    server: _RuntimeApi
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path != f"{_VERSION}/invocation/next":
            self._send(404, {"errorType": "NotFound"})
            return
        invocation = self.server.next_invocation()
        if invocation is None:
            self.close_connection = True
            return
        self._send(
            200,
            invocation.body,
            {
                "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": self.server.function_arn,
                "Lambda-Runtime-Trace-Id": "Root=1-00000000-000000000000000000000000;Parent=0000000000000000;Sampled=0",
            },
        )

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"null")
        if self.path == f"{_VERSION}/init/error":
            self.server.fail_init(document)
            self._send(202, {"status": "OK"})
        elif (outcome := _OUTCOME.fullmatch(self.path)) is None:
            self._send(404, {"errorType": "NotFound"})
        elif self.server.finish(outcome["request_id"], outcome["kind"], document):
            self._send(202, {"status": "OK"})
        else:
            self._send(400, {"errorType": "InvalidRequestID", "errorMessage": "not the invocation that is running"})

    def _send(self, status: int, body: bytes | dict[str, Any], headers: Mapping[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.close_connection = True  # the container was killed while it waited or answered

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class LambdaContainer:
    """One execution environment of a function: started cold by ``with``, then warm, killed at the end.

    As on Lambda it is frozen while no event runs: a thread that a handler leaves behind does not get on.

    Args:
        handler: ``module.function``.
        environment: the function's variables; the container has these and Lambda's own, and nothing of this process's.
            Warnings are errors in it, unless ``PYTHONWARNINGS`` says otherwise.
        task_root: the folder with the code, as ``/var/task``: found before what is installed here. The tests' by
            default; may be an unpacked zip.
        function_name: what it is called.
        memory_mb: what the function is told that it has.

    Raises:
        EngineUnavailable: awslambdaric isn't installed.
    """

    def __init__(
        self,
        handler: str,
        environment: Mapping[str, str],
        *,
        task_root: Path | None = None,
        function_name: str = "commandstore-test",
        memory_mb: int = 512,
    ) -> None:
        if importlib.util.find_spec(_MODULE) is None:
            raise EngineUnavailable("the package awslambdaric is missing, which there is for Linux: uv sync")
        self._handler = handler
        self._given = dict(environment)
        self._task_root = task_root or Path(__file__).resolve().parent.parent
        self._function_name = function_name
        self._memory_mb = memory_mb
        self._last_logs: tuple[str, ...] = ()
        self.cold_start_seconds = 0.0
        """From the start of the process until it asked for its first event."""

    def __enter__(self) -> Self:
        region = self._given.get("AWS_REGION", "eu-central-1")
        self._api = _RuntimeApi(f"arn:aws:lambda:{region}:000000000000:function:{self._function_name}")
        began = time.monotonic()
        # The supervisor removes its working folder, so that is not the task root.
        self._process = SupervisedProcess(
            [sys.executable, "-m", _MODULE, self._handler],
            environment=self._environment(region),
            directory=Path(tempfile.mkdtemp(prefix="commandstore-lambda-")),
        )
        # A descriptor of its own, as what the process printed is also read once it has been killed.
        self._log: int | None = os.dup(self._process._log.fileno())
        try:
            self._initialize(began)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()
        self._last_logs = self.logs
        heard("the log of a Lambda", "\n".join(self._last_logs))
        if self._log is not None:
            os.close(self._log)
            self._log = None
        self._api.close()

    @property
    def alive(self) -> bool:
        """Whether it can take another event. After a deadline or a kill it can't: start another one."""
        return self._process.alive and self._api.init_error is None

    @property
    def logs(self) -> tuple[str, ...]:
        """The lines that it has printed so far, on either stream. A handler's error is one line, with CRs in it."""
        if self._log is None:
            return self._last_logs
        text = os.pread(self._log, os.fstat(self._log).st_size, 0).decode("utf-8", "replace")
        return tuple(text.removesuffix("\n").split("\n")) if text else ()

    def kill(self) -> None:
        """End it at once, with SIGKILL; an event that is running, in another thread, comes to an error."""
        self._process.stop()

    def invoke(self, event: Any, *, timeout: float = 60.0, request_id: str | None = None) -> Answer:
        """Send an event and wait for what it comes to; at the deadline the container is killed.

        Args:
            event: what the handler gets, as JSON.
            timeout: the function's timeout in seconds.
            request_id: that of an earlier invocation, for a duplicate delivery; a new one by default.

        Raises:
            RuntimeError: the container has ended, or runs another event: Lambda would start another one.
        """
        named = request_id or str(uuid.uuid4())
        printed = len(self.logs)
        began = time.monotonic()
        if self._api.init_error is not None:
            return _answer(named, began, self.logs, ("error", self._api.init_error))
        if not self._process.alive:
            raise RuntimeError("this container has ended; start another one")
        invocation = _Invocation(named, json.dumps(event).encode(), int((time.time() + timeout) * 1000))
        with self._api.changed:
            if self._api.current is not None:
                raise RuntimeError("this container runs an event; start another one")
            self._thaw()
            self._api.current = invocation
            self._api.changed.notify_all()
        self._wait(lambda: invocation.outcome is not None, began + timeout)
        with self._api.changed:
            self._api.current = None
            outcome = invocation.outcome
            if outcome is not None:
                self._freeze()
        if outcome is None:
            outcome = self._end(named, timeout)
        return _answer(named, began, self.logs[printed:], outcome)

    def _environment(self, region: str) -> dict[str, str]:
        host, port = self._api.server_address[:2]
        given = self._given
        path = os.pathsep.join(filter(None, [str(self._task_root), given.get("PYTHONPATH")]))
        return {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_SESSION_TOKEN": "testing",
            "AWS_DEFAULT_REGION": region,
            "AWS_REGION": region,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{'.'.join(platform.python_version_tuple()[:2])}",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self._memory_mb),
            "AWS_LAMBDA_FUNCTION_NAME": self._function_name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{self._function_name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": f"[$LATEST]{uuid.uuid4().hex}",
            "LAMBDA_TASK_ROOT": str(self._task_root),
            "LANG": "C.UTF-8",
            "PATH": os.defpath,
            "PYTHONWARNINGS": "error",
            "TZ": ":UTC",
            **given,
            "_HANDLER": self._handler,
            "AWS_LAMBDA_RUNTIME_API": f"{host}:{port}",
            "PYTHONPATH": path,
        }

    def _initialize(self, began: float) -> None:
        initialized = self._wait(
            lambda: self._api.asked_for_work or self._api.init_error is not None, began + _INIT_SECONDS
        )
        self.cold_start_seconds = time.monotonic() - began
        if initialized:
            with self._api.changed:
                if self._api.init_error is None:
                    self._freeze()
        elif self._process.alive:
            raise TimeoutError(f"{self._handler} did not start within {_INIT_SECONDS:.0f} s:\n" + "\n".join(self.logs))
        else:
            self._api.fail_init(_exit_error("while it was imported"))

    def _wait(self, done: Callable[[], bool], deadline: float) -> bool:
        """Wait until something is done; False if the process ended or the time was over before."""
        with self._api.changed:
            while not done():
                left = deadline - time.monotonic()
                if left <= 0 or not self._process.alive:
                    return done()
                self._api.changed.wait(min(left, _CHECK_SECONDS))
            return True

    def _end(self, request_id: str, timeout: float) -> tuple[str, dict[str, Any]]:
        # It ended by itself, or was killed by another thread; or else its time is over.
        if not self._process.alive:
            return "error", _exit_error(f"at request {request_id}")
        self.kill()
        message = f"RequestId: {request_id} Error: Task timed out after {timeout:.2f} seconds"
        return "timeout", {"errorType": "Sandbox.Timedout", "errorMessage": message}

    def _freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def _thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        try:
            for child in psutil.Process(self._process._supervisor.pid).children(recursive=True):
                child.send_signal(number)
        except psutil.NoSuchProcess:
            pass  # it has ended: who asks for the next event is told


def _exit_error(when: str) -> dict[str, Any]:
    return {"errorType": "Runtime.ExitError", "errorMessage": f"Runtime exited without providing a reason {when}"}


def _answer(request_id: str, began: float, logs: tuple[str, ...], outcome: tuple[str, Any]) -> Answer:
    kind, document = outcome
    seconds = time.monotonic() - began
    if kind == "response":
        return Answer(request_id, seconds, logs, result=document)
    return Answer(
        request_id,
        seconds,
        logs,
        error_type=document.get("errorType"),
        error_message=document.get("errorMessage"),
        stack=tuple(document.get("stackTrace", ())),
        timed_out=kind == "timeout",
    )
