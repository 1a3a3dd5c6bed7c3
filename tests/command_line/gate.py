"""A way to DynamoDB that lets some requests through and then holds the others: a place to interrupt a sync at."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class Gate:
    """Forwards to ``endpoint``; after ``open_for`` requests of an operation it holds each further one until opened."""

    def __init__(self, endpoint: str, *, open_for: int = 0, operation: str = "BatchExecuteStatement") -> None:
        self._upstream = endpoint.removeprefix("http://")
        self._left = open_for
        self._operation = operation
        self._lock = threading.Lock()
        self._opened = threading.Event()
        self.reached = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def open(self) -> None:
        """Let everything through from now on."""
        self._opened.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _pass(self, operation: str) -> None:
        if not operation.endswith(self._operation):
            return
        with self._lock:
            self._left -= 1
            held = self._left < 0
        if held:
            self.reached.set()
            self._opened.wait()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                gate._pass(self.headers["X-Amz-Target"])
                upstream = http.client.HTTPConnection(gate._upstream)
                try:
                    upstream.request("POST", self.path, body, dict(self.headers))
                    answer = upstream.getresponse()
                    content = answer.read()
                finally:
                    upstream.close()
                try:
                    self.send_response(answer.status)
                    for name, value in answer.getheaders():
                        if name.lower().startswith(("content-type", "x-amz")):
                            self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except ConnectionError:
                    self.close_connection = True  # whoever asked has ended

            def log_message(self, *_: object) -> None:
                pass

        return Handler
