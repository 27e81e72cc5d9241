"""Many small files put and got in one session each: feedgate beside OpenSSH and rclone."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections import defaultdict
from functools import partial
from pathlib import Path

from peers import PEERS, Peer, scratch_folder, start_peers
from report import Bound, count_syncs, options, report, settle

BOUNDS = (Bound("put", "openssh", 1.3), Bound("get", "openssh", 1.15))


def main() -> int:
    """Measure, print, and say whether the bounds hold."""
    parser = options(__doc__ or "", size="4K")
    parser.add_argument("--files", type=int, default=2_000)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=["feedgate", "openssh"])
    arguments = parser.parse_args()
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    with (
        scratch_folder(arguments.scratch, 8 * arguments.files * arguments.size) as folder,
        start_peers(arguments.peers, folder) as peers,
    ):
        small = folder / "small"
        small.mkdir()
        for number in range(arguments.files):
            (small / f"{number:05d}.bin").write_bytes(os.urandom(arguments.size))
        for run in range(arguments.runs):
            for peer in peers[run % len(peers) :] + peers[: run % len(peers)]:
                measure(peer, small, f"run{run}", seconds)
        held = report(seconds, BOUNDS, peers)
        print(f"put {arguments.files} files once more, counting:")
        for peer in peers:
            peer.sftp("mkdir counted", cwd=folder)
            put = partial(peer.sftp, "cd counted", "put *", cwd=small)
            print(" ", count_syncs(peer, put))
    return 0 if held else 1


def measure(
    peer: Peer, small: Path, remote: str, seconds: dict[tuple[str, str], list[float]]
) -> None:
    """Put all, get all, compare; each run has a remote folder of its own."""
    back = small.with_name("back")
    back.mkdir()
    peer.sftp(f"mkdir {remote}", cwd=small)
    settle()
    seconds["put", peer.name].append(peer.sftp(f"cd {remote}", "put *", cwd=small))
    settle()
    seconds["get", peer.name].append(peer.sftp(f"cd {remote}", "get *", cwd=back))
    names = [path.name for path in small.iterdir()]
    _same, different, unread = filecmp.cmpfiles(small, back, names, shallow=False)
    if different or unread:
        raise SystemExit(f"{peer.name} gave back other bytes: {(different + unread)[:5]}")
    shutil.rmtree(back)
    put, get = (seconds[work, peer.name][-1] for work in ("put", "get"))
    print(f"  {peer.name:<10} put {put:.3f} s  get {get:.3f} s", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
