"""What an idle connection gives back is not missed when it works on."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import asyncssh
import pytest
from raw_client import text

from feedgate.sftp import fastpath
from feedgate.sftp.footprint import _Closed


def test_an_idle_connection_keeps_neither_offers_nor_options_of_its_own(door: Any) -> None:
    """After a login both KEXINITs are gone, and the options are those of the door, shared."""
    first, second = door.raw(), door.raw()
    first.sftp().init()
    second.sftp().init()
    one, other = (server._connection for server in door.door._servers)
    assert (one._client_kexinit, one._server_kexinit) == (b"", b"")
    assert one._options is other._options
    assert one._packet_handlers is other._packet_handlers
    assert first.sftp().init()[0] == 3


def test_a_forgotten_handshake_does_not_hinder_the_next(door: Any) -> None:
    """Keys are exchanged anew by either side, and requests are answered after it."""

    async def rekey() -> None:
        options: Any = {"known_hosts": None, "client_keys": [str(door.key)], "config": None}
        async with (
            asyncssh.connect("127.0.0.1", door.port, username=door.user, **options) as client,
            client.start_sftp_client() as sftp,
        ):
            for _ in range(2):
                await sftp.realpath("/")
                client._rekey_bytes_sent = client._rekey_bytes  # ours to begin with the next packet
                await sftp.realpath("/")
            server = door.on_loop(lambda: next(iter(door.door._servers))._connection)
            offered = server._client_kexinit
            assert offered
            server._rekey_bytes_sent = server._rekey_bytes
            await sftp.realpath("/")
            await sftp.realpath("/")
            assert server._client_kexinit != offered

    asyncio.run(rekey())
    assert door.errors == []


def test_few_ciphers_are_ready_and_every_session_works(
    door: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More sessions than ciphers are kept ready for answer one after another, twice."""
    monkeypatch.setattr(fastpath, "_READY_MAX", 3)
    monkeypatch.setattr(fastpath, "_ready", deque())
    sessions = [door.raw().sftp() for _ in range(4)]
    for session in sessions:
        session.init()
    for session in sessions:
        assert session.request(16, text(b"/x")).names[0][0] == b"/x"  # REALPATH
    assert len(fastpath._ready) == 3
    held = [cipher() for cipher in fastpath._ready]
    assert all(cipher is not None and cipher.aead is not None for cipher in held)


def test_closed_wakes_who_waits_and_lets_pass_who_comes_later() -> None:
    """As an asyncio.Event does, of which nobody may notice the difference."""

    async def use() -> None:
        closed = _Closed()
        waiting = [asyncio.create_task(closed.wait()) for _ in range(2)]
        await asyncio.sleep(0)
        assert not closed.is_set()
        assert not any(task.done() for task in waiting)
        closed.set()
        assert await asyncio.gather(*waiting) == [True, True]
        assert closed.is_set()
        assert await closed.wait()

    asyncio.run(use())
