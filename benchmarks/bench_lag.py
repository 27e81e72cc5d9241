"""How late a worker's event loop answers while much else goes on in it.

A session asks REALPATH, which needs nothing but the loop, every few milliseconds. The times of its
answers are an upper bound of the loop's lag: they hold the client's own part and two ways over the
loopback interface. Meanwhile: handshakes at once, a listing of many names, a file that is loaded,
and a scope-down policy of 50 KB that is taken up.
"""

from __future__ import annotations

import asyncio
import json
import time

import asyncssh
from peers import Feedgate, scratch_folder, start_peers
from report import options, percentile, show_bound

BOUND_S = 0.05
PAUSE_S = 0.005
POLICY_BYTES = 50_000


def main() -> int:
    """Measure, print, and say whether the bound holds."""
    parser = options(__doc__ or "")
    parser.add_argument("--names", type=int, default=100_000, help="in the listed directory")
    parser.add_argument("--handshakes", type=int, default=50, help="at once")
    arguments = parser.parse_args()
    with scratch_folder(arguments.scratch, 1 << 30) as folder:
        Feedgate.more_options = ("--workers", "1")
        with start_peers(["feedgate"], folder) as (peer,):
            assert isinstance(peer, Feedgate)
            names = folder / "names"
            names.mkdir()
            for number in range(arguments.names):
                (names / f"{number:06d}").touch()
            print(f"putting {arguments.names} empty files …", flush=True)
            peer.sftp("mkdir listed", "cd listed", "put *", cwd=names)
            widen_policy(peer)
            quiet, busy = asyncio.run(measure(peer, arguments.handshakes))
    print(f"quiet: p50 {percentile(quiet, 50) * 1e3:.2f} ms, p99 {percentile(quiet, 99) * 1e3:.2f}")
    print(f"busy:  p50 {percentile(busy, 50) * 1e3:.2f} ms, largest {max(busy) * 1e3:.2f}")
    return 0 if show_bound("busy, p99", percentile(busy, 99), BOUND_S, "s") else 1


def widen_policy(peer: Feedgate) -> None:
    """Let the scope-down policy of the running stack grow to 50 KB of statements."""
    path = peer.stack / "policy.txt"
    policy = json.loads(path.read_text())
    number = 0
    while len(json.dumps(policy)) < POLICY_BYTES:
        number += 1
        policy["Statement"].append(
            {
                "Sid": f"Nowhere{number}",
                "Effect": "Allow",
                "Action": ["s3:GetObject*", "s3:Put*"],
                "Resource": f"arn:aws:s3:::elsewhere-{number}/*/{number}/*.csv",
            }
        )
    path.write_text(json.dumps(policy, indent=2))


async def measure(peer: Feedgate, handshakes: int) -> tuple[list[float], list[float]]:
    """Seconds of each answer while nothing else goes on, and while everything does."""
    connection = await connect(peer)
    client = await connection.start_sftp_client()
    await client.realpath(".")
    quiet = await answers(client, asyncio.create_task(asyncio.sleep(3)))
    everything = asyncio.create_task(work(peer, handshakes))
    busy = await answers(client, everything)
    await everything
    connection.abort()
    return quiet, busy


async def answers(client: asyncssh.SFTPClient, until: asyncio.Task[None]) -> list[float]:
    """Ask again and again until a task is done."""
    taken = []
    while not until.done():
        begin = time.perf_counter()
        await client.realpath(".")
        taken.append(time.perf_counter() - begin)
        await asyncio.sleep(PAUSE_S)
    return taken


async def work(peer: Feedgate, handshakes: int) -> None:
    """What a worker may meet at one time, by clients in processes of their own."""
    commands = [["ls listed"], ["ls -l listed"]]
    rows = peer.folder / "rows.csv"
    rows.write_text("".join(f"{number},1,2026-11-24\n" for number in range(200_000)))
    commands.append([f"put {rows} incoming.csv"])
    await asyncio.gather(
        *(asyncio.to_thread(peer.sftp, *words, cwd=peer.folder) for words in commands),
        *(asyncio.to_thread(peer.sftp, "pwd", cwd=peer.folder) for _ in range(handshakes)),
    )


async def connect(peer: Feedgate) -> asyncssh.SSHClientConnection:
    """A session of its own for the probe."""
    return await asyncssh.connect(
        "127.0.0.1",
        peer.port,
        username=peer.user,
        client_keys=[str(peer.key)],
        known_hosts=None,
        config=None,
        agent_path=None,
    )


if __name__ == "__main__":
    raise SystemExit(main())
