"""A DynamoDB that stores nothing and says yes: what is left is what a client costs.

Runs in a process of its own, so that its work isn't counted. ``with YesServer() as endpoint_url: ...``
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import zlib

_TABLE = "yes"
_SETTINGS = (
    b'{"Item":{"uuid":{"S":"commandstore"},"part":{"S":"settings"},"format":{"N":"1"},'
    b'"tenant_shards":{"N":"4"},"time_shards":{"N":"16"}}}'
)


def answer(operation: bytes, body: bytes) -> bytes:
    """Yes, in the words of each operation."""
    if operation == b"BatchExecuteStatement":
        count = body.count(b'"Statement":')
        return b'{"Responses":[' + b",".join([b'{"TableName":"yes"}'] * count) + b"]}"
    if operation == b"BatchWriteItem":
        return b'{"UnprocessedItems":{}}'
    if operation == b"BatchGetItem":
        return b'{"Responses":{},"UnprocessedKeys":{}}'
    if operation == b"GetItem":
        return _SETTINGS if b'"settings"' in body else b"{}"  # no register, no command
    if operation == b"DescribeTable":
        return _description()
    return b"{}"


def _description() -> bytes:
    import orjson  # noqa: PLC0415 - only the child needs it

    from commandstore.dynamodb.table import definition  # noqa: PLC0415 - as above

    table = definition(_TABLE)
    return orjson.dumps({"Table": {**table, "TableStatus": "ACTIVE"}})


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            lines = bytes(self._buffer[:end]).split(b"\r\n")[1:]
            lower = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
            if lower.pop(b"expect", None):
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            length = int(lower.get(b"content-length", b"0"))
            if len(self._buffer) < end + 4 + length:
                return
            body = bytes(self._buffer[end + 4 : end + 4 + length])
            del self._buffer[: end + 4 + length]
            said = answer(lower.get(b"x-amz-target", b"").rpartition(b".")[2], body)
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\n"
                b"x-amz-crc32: %d\r\nContent-Length: %d\r\n\r\n" % (zlib.crc32(said), len(said)) + said
            )


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The end of the parent, however it comes, closes our input.
    await loop.run_in_executor(None, sys.stdin.read)


class YesServer:
    """The server in a child process; gives its endpoint's URL."""

    table = _TABLE

    def __enter__(self) -> str:
        self._child = subprocess.Popen(  # noqa: S603 - this very file, and no shell
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._child.stdout is not None
        return f"http://127.0.0.1:{int(self._child.stdout.readline())}"

    def __exit__(self, *_: object) -> None:
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            pipe.close()
        self._child.wait(timeout=10)


if __name__ == "__main__":
    asyncio.run(_serve())
