"""Messages between the supervisor and its children."""

from __future__ import annotations

import socket

import pytest

from feedgate.gateway.process import Channel


def test_a_socket_travels_with_its_message() -> None:
    """The child receives the connected socket itself, and can speak on it."""
    ours, theirs = Channel.pair()
    child = Channel(theirs)
    left, right = socket.socketpair()
    with left, right:
        ours.send("connection", connection=right, peer="127.0.0.1")
        received = child.receive()
        assert received is not None
        message, connection = received
        assert message == {"kind": "connection", "peer": "127.0.0.1"}
        assert connection is not None
        with connection:
            connection.sendall(b"hello")
            assert left.recv(5) == b"hello"
    ours.close()
    child.close()


def test_messages_keep_their_bounds() -> None:
    """Two messages sent in a row are received as two."""
    ours, theirs = Channel.pair()
    child = Channel(theirs)
    ours.send("start")
    ours.send("drain", grace_s=3)
    assert child.receive() == ({"kind": "start"}, None)
    assert child.receive() == ({"kind": "drain", "grace_s": 3}, None)
    ours.close()
    assert child.receive() is None
    child.close()


def test_nothing_there_is_told_apart_from_gone() -> None:
    """A non-blocking end says that there is no message yet, rather than that the other is gone."""
    ours, theirs = Channel.pair()
    ours.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        ours.receive()
    theirs.close()
    assert ours.receive() is None
    ours.close()
