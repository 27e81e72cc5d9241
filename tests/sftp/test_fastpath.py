"""The fast path: the same bytes, replies and ends as asyncssh alone, in whatever pieces."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import asyncssh
import pytest
from raw_client import RawSftp, text, u32, u64

from feedgate.sftp import fastpath
from feedgate.sftp.memory import keep_freed_memory

MIB = 1024 * 1024


class Cutter:
    """A TCP proxy that cuts the client's stream into pieces of random size, or flips a bit."""

    def __init__(self, port: int, seed: int, flip_after: int | None = None) -> None:
        self._target = port
        self._random = random.Random(seed)
        self._flip_after = flip_after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            client, _address = self._listener.accept()
            server = socket.create_connection(("127.0.0.1", self._target))
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [client, server]
            back = threading.Thread(target=self._copy, args=(server, client), daemon=True)
            back.start()
            self._cut(client, server)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _cut(self, client: socket.socket, server: socket.socket) -> None:
        passed = 0
        while data := client.recv(self._random.choice((1, 3, 17, 1000, 40_000, 200_000))):
            if self._flip_after is not None and passed + len(data) > self._flip_after:
                damaged = bytearray(data)
                damaged[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)
                data, self._flip_after = bytes(damaged), None
            passed += len(data)
            server.sendall(data)
        server.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End it."""
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._thread.join(5)


@pytest.fixture
def cut() -> Iterator[Callable[..., Cutter]]:
    """Makes proxies that are closed after the test."""
    made: list[Cutter] = []

    def make(port: int, seed: int, flip_after: int | None = None) -> Cutter:
        made.append(Cutter(port, seed, flip_after))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture
def consumed(monkeypatch: pytest.MonkeyPatch) -> dict[bool, int]:
    """How many packets the fast path consumed, and how many it left to asyncssh."""
    counts = {True: 0, False: 0}
    original = fastpath.FastWire._channel_data

    def counted(self: fastpath.FastWire, packet: memoryview) -> bool:
        taken = original(self, packet)
        counts[taken] += 1
        return taken

    monkeypatch.setattr(fastpath.FastWire, "_channel_data", counted)
    return counts


def conversation(session: RawSftp, seed: int) -> list[tuple[int, int, bytes]]:
    """Uploads, downloads and small requests, chosen by the seed; every reply."""
    chosen = random.Random(seed)
    content = chosen.randbytes(MIB)
    session.init()
    replies = []

    def ask(packet_type: int, *fields: bytes) -> Any:
        reply = session.request(packet_type, *fields)
        replies.append((reply.type, reply.id, reply.body))
        return reply

    handle = ask(3, text(b"/f"), u32(2 | 8 | 16), u32(0)).handle
    position = 0
    while position < len(content):
        sent = []
        for _ in range(chosen.randrange(1, 6)):
            size = chosen.choice((0, 1, 15, 16, 17, 32_717, 32_768, 100_000, 255 * 1024))
            data = content[position : position + size]
            sent.append(session.send_request(6, handle, u64(position), text(data)))
            position += len(data)
        for number in sent:
            reply = session.receive()
            assert reply.id == number
            replies.append((reply.type, reply.id, reply.body))
        ask(17, text(b"/"))
    ask(4, handle)
    handle = ask(3, text(b"/f"), u32(1), u32(0)).handle
    read = b""
    while True:
        reply = ask(5, handle, u64(len(read)), u32(chosen.choice((1, 16, 32_759, 255 * 1024))))
        if reply.type == 101:
            break
        read += reply.body[4:]
        if len(read) < 1000:
            continue
    ask(4, handle)
    assert read == content
    return replies


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("seed", [1, 2])
def test_equal_to_the_plain_path(
    make_door: Callable[..., Any],
    cut: Callable[..., Cutter],
    consumed: dict[bool, int],
    loop: str,
    seed: int,
) -> None:
    """The same conversation gives the same bytes, cut anywhere, with and without the fast path."""
    seen = []
    for fast in (True, False):
        door = make_door(loop, fast=fast)
        for port in (door.port, cut(door.port, seed).port):
            transport = door.raw(port=port)
            replies = conversation(transport.sftp(), seed)
            seen.append((replies, door.store.files[b"/f"], door.store.uploads[-1].writes))
            transport.close()
        assert door.errors == []
        if fast:
            assert consumed[True] > 4 * consumed[False]
            door.call(asyncio.sleep(0))  # a packet is counted after its answer has left
            taken = dict(consumed)
    assert consumed == taken
    assert seen[0][0]
    assert all(one == seen[0] for one in seen)


def test_rekeying_in_mid_stream(
    make_door: Callable[..., Any], cut: Callable[..., Cutter], consumed: dict[bool, int]
) -> None:
    """New keys every 300 kB, asked for by either side, in a stream cut anywhere."""
    door = make_door()
    content = os.urandom(3 * MIB)

    async def transfer(port: int) -> bytes:
        async with (
            asyncssh.connect(
                "127.0.0.1",
                port,
                username=door.user,
                client_keys=[str(door.key)],
                known_hosts=None,
                config=None,
                rekey_bytes=300_000,
                encryption_algs=["aes256-gcm@openssh.com"],
            ) as connection,
            connection.start_sftp_client() as sftp,
        ):
            for server in door.door._servers:
                server._connection._rekey_bytes = 400_000
            async with sftp.open("/f", "wb") as file:
                await file.write(content)
            async with sftp.open("/f", "rb") as file:
                return await file.read()

    for port in (door.port, cut(door.port, 3).port):
        assert door.call(transfer(port)) == content
        assert door.store.files[b"/f"] == content
    assert consumed[True] > 100
    assert door.errors == []


@pytest.mark.parametrize("cipher", ["aes128-ctr", "aes256-gcm@openssh.com"])
def test_other_ciphers_go_to_asyncssh(
    make_door: Callable[..., Any], consumed: dict[bool, int], cipher: str
) -> None:
    """Only AES-GCM is taken; the others work as they did."""
    door = make_door()
    conversation(door.raw(cipher=cipher).sftp(), 4)
    assert bool(consumed[True]) == ("gcm" in cipher)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_a_flipped_bit_ends_the_connection(
    make_door: Callable[..., Any], cut: Callable[..., Cutter], fast: bool, seed: int
) -> None:
    """What does not authenticate reaches no upload; the connection ends without a CLOSE."""
    door = make_door(fast=fast)
    proxy = cut(door.port, seed, flip_after=300_000 + 1000 * seed)
    transport = door.raw(port=proxy.port)
    session = transport.sftp()
    session.init()
    handle = session.open_write()
    with contextlib.suppress(EOFError, OSError):
        for number in range(100):
            session.write(handle, number * 30_000, bytes(30_000))
    door.wait_for(lambda: door.store.homes[-1].closed)
    upload = door.store.uploads[0]
    assert (upload.closes, upload.abandons) == (0, 1)
    assert all(size == 30_000 for _offset, size in upload.writes)
    assert bytes(upload._content) == bytes(len(upload._content))
    transport.close()


@pytest.mark.parametrize("fast", [True, False])
def test_a_client_that_ignores_the_window(make_door: Callable[..., Any], fast: bool) -> None:
    """Sending more than the window while the store is slow ends the connection."""
    import asyncio

    door = make_door(fast=fast)
    release = door.on_loop(lambda: asyncio.get_running_loop().create_future())
    door.store.hold_write = lambda: release
    transport = door.raw()
    session = transport.sftp()
    session.init()
    handle = session.open_write()
    session.channel.out_window_size = 1 << 30
    with contextlib.suppress(OSError, EOFError):
        for number in range(500):
            session.send_request(6, handle, u64(number * 30_000), text(bytes(30_000)))
    door.wait_for(lambda: not transport.transport.is_active())
    door.on_loop(lambda: release.set_result(None))
    door.wait_for(lambda: door.store.homes[-1].closed)
    assert door.store.uploads[0].abandons == 1
    assert door.store.uploads[0].size < 4 * MIB


def test_packets_longer_than_any(door: Any) -> None:
    """A length that asyncssh refuses is refused here too, without waiting for the bytes."""
    transport = door.raw()
    session = transport.sftp()
    session.init()
    session.open_write()
    transport.socket.sendall(b"\x7f\xff\xff\xff" + bytes(64))
    door.wait_for(lambda: door.store.homes[-1].closed)
    assert door.store.uploads[0].abandons == 1
    transport.close()


def test_this_asyncssh_was_tested_with() -> None:
    """An asyncssh that the fast path does not know costs speed: look at its parts, then add it."""
    assert fastpath.available()


def test_an_untested_asyncssh_is_served_plainly(
    make_door: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, consumed: dict[bool, int]
) -> None:
    """Another version works by its public parts alone, and the log says that it is slower."""
    monkeypatch.setattr(fastpath, "TESTED_VERSIONS", frozenset({"1.0"}))
    door = make_door()
    conversation(door.raw().sftp(), 5)
    assert consumed == {True: 0, False: 0}
    assert any(line.get("message") == "transfers are slower" for line in door.log.lines)


def test_memory_is_kept() -> None:
    """glibc takes the thresholds, twice as well as once."""
    assert keep_freed_memory()
    assert keep_freed_memory()
