"""A directory of 100,000 names listed: feedgate beside OpenSSH on its files, and what others feel.

The names are seeded past SFTP on both sides: plain empty files for OpenSSH, objects of one byte in
the index for feedgate. Beside the seconds it prints how much the worker's memory grew, and how long
another session's STAT took while the listing ran.
"""

from __future__ import annotations

import io
import threading
import time
from collections import defaultdict
from pathlib import Path

import paramiko  # type: ignore[import-untyped]
from peers import PEERS, Feedgate, OpenSSH, Peer, scratch_folder, start_peers
from report import Bound, options, percentile, report, settle, show_bound

from feedgate.database import Transaction
from feedgate.gateway.folder import DataFolder
from feedgate.gateway.services import Services
from feedgate.storage.bucket import StagedObject
from feedgate.telemetry import EventLog

BOUNDS = (Bound("ls -1", "openssh", 1.0),)
GROWTH_MIB_MAX = 100.0
OTHER_MS_MAX = 200.0
GROUP = 500


def main() -> int:
    """Measure, print, and say whether the bounds hold."""
    parser = options(__doc__ or "")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=["feedgate", "openssh"])
    arguments = parser.parse_args()
    Feedgate.more_options = ("--workers", "1")  # so that the other session is on the same one
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    waits: list[float] = []
    growth: list[float] = []
    with (
        scratch_folder(arguments.scratch, 8 * 4096 * arguments.files) as folder,
        start_peers(arguments.peers, folder) as peers,
    ):
        for peer in peers:
            seed(peer, folder, arguments.files)
        for run in range(arguments.runs):
            for peer in peers[run % len(peers) :] + peers[: run % len(peers)]:
                settle()
                before = resident_mib(peer.worker()) if isinstance(peer, Feedgate) else 0.0
                seconds["ls -1", peer.name].append(peer.sftp("ls -1 many", cwd=folder))
                if isinstance(peer, Feedgate):
                    growth.append(resident_mib(peer.worker()) - before)
                    watched(peer, folder, waits)  # untimed: who watches takes processor time
                print(f"  {peer.name:<10} {seconds['ls -1', peer.name][-1]:.3f} s", flush=True)
        held = report(seconds, BOUNDS, peers)
    if growth:
        held &= show_bound("the worker grew by, at most", max(growth), GROWTH_MIB_MAX, "MiB")
        for percent in (50, 99, 100):
            wait_ms = percentile(waits, percent) * 1000
            held &= show_bound(f"another session's STAT, p{percent}", wait_ms, OTHER_MS_MAX, "ms")
    return 0 if held else 1


def seed(peer: Peer, folder: Path, count: int) -> None:
    """Make ``many/`` with so many files."""
    names = [f"{number:06d}.csv" for number in range(count)]
    if isinstance(peer, OpenSSH):
        many = peer.folder / "data" / "many"
        many.mkdir()
        for name in names:
            (many / name).touch()
    elif isinstance(peer, Feedgate):
        (folder / "first").write_bytes(b"x")
        peer.sftp("mkdir many", f"put first many/{names[0]}", cwd=folder)
        seed_index(peer, names)
    else:
        raise SystemExit(f"{peer.name} cannot be seeded")


def seed_index(peer: Feedgate, names: list[str]) -> None:
    """Objects beside the first, which a supplier has put, straight into the index."""
    services = Services(DataFolder.existing(peer.data), EventLog(io.StringIO(), now=time.time))
    try:
        landing = services.ledger.receipts(1)[0].landing
        bucket, prefix = services.buckets[landing.bucket], landing.key.removesuffix(names[0])
        for start in range(1, len(names), GROUP):
            staged: list[StagedObject] = []
            for name in names[start : start + GROUP]:
                upload = bucket.begin_upload(prefix + name, owner="seed")
                upload.write(0, [b"x"])
                staged.append(upload.finish())

            def publish(tx: Transaction, group: list[StagedObject] = staged) -> None:
                for item in group:
                    bucket.publish(tx, item)

            services.database.write_now(publish)
    finally:
        services.close()


def watched(peer: Feedgate, folder: Path, waits: list[float]) -> None:
    """List once more, while another session asks for one file over and over."""
    transport = paramiko.Transport(("127.0.0.1", peer.port))
    key = paramiko.Ed25519Key.from_private_key_file(str(peer.key))
    transport.connect(username=peer.user, pkey=key)
    client = paramiko.SFTPClient.from_transport(transport)
    assert client is not None
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            began = time.perf_counter()
            client.stat("/many")
            waits.append(time.perf_counter() - began)
            done.wait(0.01)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        peer.sftp("ls -1 many", cwd=folder)
    finally:
        done.set()
        asking.join()
        transport.close()


def resident_mib(pid: int) -> float:
    """The resident set of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1024**2


if __name__ == "__main__":
    raise SystemExit(main())
