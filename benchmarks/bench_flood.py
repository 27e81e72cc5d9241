"""What a good client notices while others flood the door: silent, half-open and wrong-key ones.

500 connections that say nothing, 500 that send half a greeting and 1,000 that offer a wrong key
come at once, and come back when they are cut off; meanwhile one supplier uploads small files on an
open session, and logs in anew once a second. By default the flood comes from other addresses of the
loopback network, as it does in the world; ``--same-address`` lets it come from the supplier's. The
flood is made by a process of its own that gives way to all others (nice 19): in the world other
machines do that work.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncssh
from peers import Feedgate, scratch_folder, start_peers
from report import options, show_bound

RATIO_BOUND = 2.0
SOURCES = 100  # addresses that the flood comes from


def main() -> int:
    """Measure quiet and flooded, print, and say whether the bound holds."""
    parser = options(__doc__ or "")
    parser.add_argument("--silent", type=int, default=500)
    parser.add_argument("--half-open", type=int, default=500)
    parser.add_argument("--wrong-key", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--same-address", action="store_true")
    arguments = parser.parse_args()
    with (
        scratch_folder(arguments.scratch, 1 << 20) as folder,
        start_peers(["feedgate"], folder) as (peer,),
    ):
        assert isinstance(peer, Feedgate)
        quiet, flooded, logins = asyncio.run(_measure(peer, arguments))
    print(f"{'uploads of 4 KiB, quiet: p50, p99':<42} {_ms(quiet, 50)} {_ms(quiet, 99)} ms")
    print(f"{'the same, flooded':<42} {_ms(flooded, 50)} {_ms(flooded, 99)} ms")
    print(f"{'logins while flooded: count, worst':<42} {len(logins):>8} {_ms(logins, 100)} ms")
    ratio = _percentile(flooded, 99) / _percentile(quiet, 99)
    return 0 if show_bound("p99 flooded / quiet", ratio, RATIO_BOUND, "x") else 1


async def _measure(
    peer: Feedgate, arguments: Namespace
) -> tuple[list[float], list[float], list[float]]:
    connection = await _log_in(peer, peer.key)
    async with connection, connection.start_sftp_client() as client:
        await _uploads(client, 2)
        quiet = await _uploads(client, arguments.seconds)
        took: list[float] = []
        with _flood(peer, arguments):
            await asyncio.sleep(5)
            logins = asyncio.create_task(_logins(peer, took))
            flooded = await _uploads(client, arguments.seconds)
            logins.cancel()
            await asyncio.gather(logins, return_exceptions=True)
    return quiet, flooded, took


async def _uploads(client: asyncssh.SFTPClient, seconds: float) -> list[float]:
    took: list[float] = []
    until = time.perf_counter() + seconds
    while (started := time.perf_counter()) < until:
        async with client.open(f"/incoming/{len(took) % 50}.bin", "wb") as file:
            await file.write(bytes(4096))
        took.append(time.perf_counter() - started)
        await asyncio.sleep(0.01)
    return took


async def _log_in(peer: Feedgate, key: Path) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        "127.0.0.1",
        peer.port,
        username=peer.user,
        client_keys=[str(key)],
        known_hosts=None,
        config=None,
        agent_path=None,
    )


async def _logins(peer: Feedgate, took: list[float]) -> None:
    while True:
        started = time.perf_counter()
        async with await _log_in(peer, peer.key):
            took.append(time.perf_counter() - started)
        await asyncio.sleep(1)


# -- the flood ----------------------------------------------------------------------------------


@contextmanager
def _flood(peer: Feedgate, arguments: Namespace) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    process = context.Process(
        target=_run_flood, args=(peer.port, peer.user, arguments), daemon=True
    )
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _run_flood(port: int, user: str, arguments: Namespace) -> None:
    os.nice(19)
    asyncio.run(_flood_all(port, user, arguments))


async def _flood_all(port: int, user: str, arguments: Namespace) -> None:
    same = arguments.same_address
    wrong = asyncssh.generate_private_key("ssh-ed25519")
    holders = ((b"", arguments.silent), (b"SSH-2.0-half", arguments.half_open))
    await asyncio.gather(
        *(
            _hold(port, greeting, _source(number, same))
            for greeting, count in holders
            for number in range(count)
        ),
        *(_try(port, user, wrong, _source(number, same)) for number in range(arguments.wrong_key)),
    )


def _source(number: int, same: bool) -> str:
    return "127.0.0.1" if same else f"127.0.1.{number % SOURCES + 1}"


async def _hold(port: int, greeting: bytes, source: str) -> None:
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, local_addr=(source, 0)
            )
            writer.write(greeting)
            with suppress(OSError):
                while await reader.read(4096):
                    pass
            writer.close()
        await asyncio.sleep(1)


async def _try(port: int, user: str, key: asyncssh.SSHKey, source: str) -> None:
    while True:
        with suppress(OSError, asyncssh.Error):
            await asyncssh.connect(
                "127.0.0.1",
                port,
                local_addr=(source, 0),
                username=user,
                client_keys=[key],
                known_hosts=None,
                config=None,
                agent_path=None,
            )
        await asyncio.sleep(1)


def _percentile(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0.0


def _ms(values: list[float], percent: int) -> str:
    return f"{_percentile(values, percent) * 1000:>8.1f}"


if __name__ == "__main__":
    raise SystemExit(main())
