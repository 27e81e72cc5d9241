"""How the supervisor speaks with its children: messages over a SEQPACKET pair, sockets beside them.

One message a packet, JSON with a ``kind``. Supervisor to child: ``start``, ``connection`` (with the
accepted socket and its number), ``end`` (of a connection), ``answer`` (to a question about one),
``drain``. Child to supervisor: ``ready``, ``load`` (open connections), ``event`` (for the
operator's terminal), ``failed`` (why it could not start), ``drained``; and about one connection the
questions ``admit`` and ``password``, the news ``authenticated``, ``failed-login``, ``refused`` and
``closed`` (see ``lifecycle.Supervision``).
"""

from __future__ import annotations

import errno
import json
import socket
from typing import Any

__all__ = ["MESSAGE_BYTES_MAX", "Channel"]

MESSAGE_BYTES_MAX = 64 * 1024


class Channel:
    """One end of the pair. Blocking unless the socket is set otherwise."""

    def __init__(self, sock: socket.socket, *, wants_events: bool = False) -> None:
        self.sock = sock
        self.wants_events = wants_events  # whether a person watches uploads and loads

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """The supervisor's end, and the socket to hand to the child."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    @classmethod
    def inherited(cls, fd: int, *, wants_events: bool = False) -> Channel:
        """The child's end, from the file descriptor that it was started with."""
        return cls(socket.socket(fileno=fd), wants_events=wants_events)

    def send(self, kind: str, *, connection: socket.socket | None = None, **fields: Any) -> None:
        """Send one message, with a socket beside it where given.

        Raises:
            OSError: the other end is gone, or (non-blocking) its queue is full.
        """
        data = json.dumps({"kind": kind, **fields}).encode()
        if len(data) > MESSAGE_BYTES_MAX:
            raise OSError(errno.EMSGSIZE, "message too long")
        if connection is None:
            self.sock.send(data)
        else:
            socket.send_fds(self.sock, [data], [connection.fileno()])

    def receive(self) -> tuple[dict[str, Any], socket.socket | None] | None:
        """The next message and its socket (None: no descriptor was free); None when all is over.

        Raises:
            BlockingIOError: non-blocking, and there is none.
        """
        try:
            data, fds, _flags, _address = socket.recv_fds(self.sock, MESSAGE_BYTES_MAX, 1)
        except ConnectionError:
            return None
        connection = socket.socket(fileno=fds[0]) if fds else None
        try:
            message: dict[str, Any] = json.loads(data)
        except ValueError:  # empty: the other end is gone; cut: it is not to be trusted
            return None
        return message, connection

    def close(self) -> None:
        self.sock.close()
