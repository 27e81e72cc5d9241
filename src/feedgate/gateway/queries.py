"""Operator's queries: through the running gateway's socket, or from the file when nothing runs.

DuckDB locks its file, so while a gateway runs only its loader can read the warehouse. The socket
lies in the data folder and belongs to its owner; one request and one answer a connection, JSON.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from feedgate.errors import CouldNot, FeedgateError, UsageError
from feedgate.limits import QUERY_ANSWER_BYTES_MAX, QUERY_REQUEST_BYTES_MAX, QUERY_TIMEOUT_S

__all__ = ["Answer", "QueryServer", "ask", "bind_short", "connect_short"]


@dataclass(frozen=True, slots=True)
class Answer:
    """Columns, their types, and rows as JSON values. ``truncated`` says that there are more."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool = False


class QueryServer:
    """Answers on a Unix socket from one thread; ``run_query(sql)`` does the work."""

    def __init__(self, path: Path, run_query: Callable[[str], Answer]) -> None:
        self._path = path
        self._run_query = run_query
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Bind (replacing a dead gateway's socket) and serve in a daemon thread."""
        self._path.unlink(missing_ok=True)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        bind_short(server, self._path)
        os.chmod(self._path, 0o600)
        server.listen(16)
        self._socket = server
        threading.Thread(target=self._serve, args=(server,), daemon=True, name="queries").start()

    def stop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._path.unlink(missing_ok=True)

    def _serve(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _peer = server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(QUERY_TIMEOUT_S)
                try:
                    connection.sendall(self._answer(_read_all(connection, QUERY_REQUEST_BYTES_MAX)))
                except OSError:
                    continue  # whoever asked is gone

    def _answer(self, request: bytes) -> bytes:
        try:
            sql = str(msgspec.json.decode(request)["sql"])
            return msgspec.json.encode({"answer": self._run_query(sql)}, enc_hook=str)
        except FeedgateError as error:
            return msgspec.json.encode({"error": error.message, "hint": error.hint})
        except (msgspec.DecodeError, KeyError, TypeError):
            return msgspec.json.encode({"error": "not a query request"})


def ask(path: Path, sql: str) -> Answer | None:
    """Ask a running gateway; None when none answers on that socket.

    Raises:
        UsageError: the query is at fault; the text says how.
        CouldNot: the gateway did not answer in time.
    """
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(QUERY_TIMEOUT_S)
    try:
        connect_short(client, path)
    except OSError:
        client.close()
        return None
    with client:
        try:
            client.sendall(msgspec.json.encode({"sql": sql}))
            client.shutdown(socket.SHUT_WR)
            reply = msgspec.json.decode(_read_all(client, QUERY_ANSWER_BYTES_MAX))
        except (OSError, msgspec.DecodeError) as error:
            raise CouldNot(f"the gateway did not answer the query: {error}") from error
    if "error" in reply:
        raise UsageError(reply["error"], hint=reply.get("hint"))
    return msgspec.convert(reply["answer"], Answer)


def _read_all(connection: socket.socket, bytes_max: int) -> bytes:
    received = bytearray()
    while block := connection.recv(64 * 1024):
        received += block
        if len(received) > bytes_max:
            raise OSError("message too long")
    return bytes(received)


def bind_short(server: socket.socket, path: Path) -> None:
    """A Unix socket's path holds about 108 bytes: bind relative to its folder's descriptor."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        server.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def connect_short(client: socket.socket, path: Path) -> None:
    """Connect likewise."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        client.connect(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
