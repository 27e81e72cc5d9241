"""One file put and got over a line of 20 ms each way: feedgate beside OpenSSH."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from peers import PEERS, Peer, scratch_folder, start_peers
from relay import delayed
from report import Bound, options, random_file, report, settle

BOUNDS = (Bound("put", "openssh", 1.0), Bound("get", "openssh", 1.0))


def main() -> int:
    """Measure, print, and say whether the bounds hold."""
    parser = options(__doc__ or "", size="256M")
    parser.add_argument("--delay-ms", type=float, default=20.0, help="in each direction")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=["feedgate", "openssh"])
    arguments = parser.parse_args()
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    with (
        scratch_folder(arguments.scratch, 5 * arguments.size) as folder,
        start_peers(arguments.peers, folder) as peers,
        ExitStack() as relays,
    ):
        for peer in peers:
            peer.port = relays.enter_context(delayed(peer.port, arguments.delay_ms / 1000))
        source = folder / "source.bin"
        random_file(source, arguments.size)
        for run in range(arguments.runs):
            for peer in peers[run % len(peers) :] + peers[: run % len(peers)]:
                measure(peer, source, seconds)
        held = report(seconds, BOUNDS, peers)
    return 0 if held else 1


def measure(peer: Peer, source: Path, seconds: dict[tuple[str, str], list[float]]) -> None:
    """Put, get, remove. Logins count: they are round trips, too."""
    settle()
    seconds["put", peer.name].append(peer.sftp(f"put {source.name}", cwd=source.parent))
    settle()
    seconds["get", peer.name].append(peer.sftp(f"get {source.name} back.bin", cwd=source.parent))
    source.with_name("back.bin").unlink()
    peer.sftp(f"rm {source.name}", cwd=source.parent)
    put, get = (seconds[work, peer.name][-1] for work in ("put", "get"))
    print(f"  {peer.name:<10} put {put:.3f} s  get {get:.3f} s", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
