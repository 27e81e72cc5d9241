"""One big file put and got by OpenSSH's client: feedgate beside OpenSSH and rclone."""

from __future__ import annotations

import filecmp
from collections import defaultdict
from functools import partial
from pathlib import Path

from peers import PEERS, Peer, scratch_folder, start_peers
from report import Bound, count_syncs, options, random_file, report, settle

BOUNDS = (
    Bound("put", "openssh", 1.1),
    Bound("put", "rclone", 0.75),
    Bound("get", "openssh", 1.2),
    Bound("get", "rclone", 0.9),
)


def main() -> int:
    """Measure, print, and say whether the bounds hold."""
    parser = options(__doc__ or "", size="1G")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    arguments = parser.parse_args()
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    with (
        scratch_folder(arguments.scratch, 5 * arguments.size) as folder,
        start_peers(arguments.peers, folder) as peers,
    ):
        source = folder / "source.bin"
        random_file(source, arguments.size)
        for run in range(arguments.runs):
            # Interleaved, and each time another peer begins: a slow minute hits all alike.
            for peer in peers[run % len(peers) :] + peers[: run % len(peers)]:
                measure(peer, source, seconds)
        held = report(seconds, BOUNDS, peers)
        for peer in peers:
            put = partial(peer.sftp, f"put {source.name}", cwd=folder)
            print("one more put, counting:", count_syncs(peer, put))
    return 0 if held else 1


def measure(peer: Peer, source: Path, seconds: dict[tuple[str, str], list[float]]) -> None:
    """Put, get, compare, remove."""
    back = source.with_name("back.bin")
    settle()
    seconds["login", peer.name].append(peer.sftp("pwd", cwd=source.parent))  # part of both below
    seconds["put", peer.name].append(peer.sftp(f"put {source.name}", cwd=source.parent))
    settle()
    seconds["get", peer.name].append(peer.sftp(f"get {source.name} {back.name}", cwd=source.parent))
    if not filecmp.cmp(source, back, shallow=False):
        raise SystemExit(f"{peer.name} gave back other bytes")
    back.unlink()
    peer.sftp(f"rm {source.name}", cwd=source.parent)
    put, get = (seconds[work, peer.name][-1] for work in ("put", "get"))
    print(f"  {peer.name:<10} put {put:.3f} s  get {get:.3f} s", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
