"""What an idle session costs in memory: feedgate beside OpenSSH, which has processes for each.

Each session asked for one path; with ``--worked`` it listed a folder, too. Counted is anonymous
memory (``Pss_Anon``): the share of a library's pages changes with whatever else the machine runs.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import asyncssh
from peers import PEERS, Feedgate, Peer, scratch_folder, start_peers
from report import options, show_bound

BOUND_KIB = 40
AT_ONCE = 20
WARM = 50  # sessions before the first figure: what a process needs once is not a session's


def main() -> int:
    """Measure, print, and say whether the bound holds."""
    parser = options(__doc__ or "")
    parser.add_argument("--sessions", type=int, default=2_000)
    parser.add_argument("--openssh-sessions", type=int, default=100, help="two processes each")
    parser.add_argument("--worked", action="store_true", help="each has listed its folder")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=["feedgate", "openssh"])
    arguments = parser.parse_args()
    many = str(2 * (arguments.sessions + WARM))
    Feedgate.more_options = (
        *("--max-connections", many, "--max-connections-per-address", many),
        *("--max-connections-per-user", many, "--workers", "1"),
    )
    held = True
    with (
        scratch_folder(arguments.scratch, 1 << 20) as folder,
        start_peers(arguments.peers, folder) as peers,
    ):
        for peer in peers:
            count = arguments.openssh_sessions if peer.name == "openssh" else arguments.sessions
            kib = asyncio.run(measure(peer, count, worked=arguments.worked))
            label = f"{peer.name}, {count} idle sessions, each"
            if isinstance(peer, Feedgate):
                held = show_bound(label, kib, BOUND_KIB, "KiB")
            else:
                print(f"{label:<42} {kib:>8.0f} KiB")
    return 0 if held else 1


async def measure(peer: Peer, count: int, *, worked: bool) -> float:
    """KiB that each of ``count`` sessions adds to the server's processes."""
    opened = await open_sessions(peer, WARM, worked=worked)
    before = proportional_kib(peer)
    opened += await open_sessions(peer, count, worked=worked)
    after = proportional_kib(peer)
    for connection in opened:
        connection.abort()
    return (after - before) / count


async def open_sessions(
    peer: Peer, count: int, *, worked: bool
) -> list[asyncssh.SSHClientConnection]:
    """That many SFTP sessions, ``AT_ONCE`` logging in at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def open_one() -> asyncssh.SSHClientConnection:
        async with gate:
            connection = await asyncssh.connect(
                "127.0.0.1",
                peer.port,
                username=peer.user,
                client_keys=[str(peer.key)],
                known_hosts=None,
                config=None,
                agent_path=None,
            )
            client = await connection.start_sftp_client()
            await client.realpath(".")
            if worked:
                await client.listdir(".")
            return connection

    return await asyncio.gather(*(open_one() for _ in range(count)))


def proportional_kib(peer: Peer) -> int:
    """Anonymous memory of all of a server's processes; what they share is counted once."""
    total = 0
    for pid in peer.processes():
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        found = re.search(r"^Pss_Anon:\s+(\d+) kB", rollup, re.MULTILINE)
        total += int(found[1]) if found else 0
    return total


if __name__ == "__main__":
    raise SystemExit(main())
