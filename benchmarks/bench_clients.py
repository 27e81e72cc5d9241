"""Eight clients at once, each putting a file: feedgate with two workers beside OpenSSH."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from peers import PEERS, Feedgate, Peer, scratch_folder, start_peers
from report import Bound, options, random_file, report, settle

BOUNDS = (Bound("put", "openssh", 1.1),)


def main() -> int:
    """Measure, print, and say whether the bound holds."""
    parser = options(__doc__ or "", size="128M")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=["feedgate", "openssh"])
    arguments = parser.parse_args()
    Feedgate.more_options = ("--workers", str(arguments.workers))
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    room = (2 * arguments.clients + 1) * arguments.size
    with (
        scratch_folder(arguments.scratch, room) as folder,
        start_peers(arguments.peers, folder) as peers,
    ):
        source = folder / "source.bin"
        random_file(source, arguments.size)
        for run in range(arguments.runs):
            for peer in peers[run % len(peers) :] + peers[: run % len(peers)]:
                measure(peer, source, arguments.clients, seconds)
        held = report(seconds, BOUNDS, peers)
    return 0 if held else 1


def measure(
    peer: Peer, source: Path, clients: int, seconds: dict[tuple[str, str], list[float]]
) -> None:
    """All put at once, each under a name of its own; the seconds until the last is done."""
    settle()
    commands = [f"put {source.name} {number}.bin" for number in range(clients)]
    with ThreadPoolExecutor(clients) as pool:
        taken = max(pool.map(lambda command: peer.sftp(command, cwd=source.parent), commands))
    seconds["put", peer.name].append(taken)
    peer.sftp(*(f"rm {number}.bin" for number in range(clients)), cwd=source.parent)
    print(f"  {peer.name:<10} {clients} puts {taken:.3f} s", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
