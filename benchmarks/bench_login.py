"""Logins one after another, each with one `pwd`: feedgate beside OpenSSH and rclone."""

from __future__ import annotations

from collections import defaultdict

from peers import PEERS, scratch_folder, start_peers
from report import Bound, options, report

BOUNDS = (Bound("login", "openssh", 0.42),)


def main() -> int:
    """Measure, print, and say whether the bound holds."""
    parser = options(__doc__ or "")
    parser.set_defaults(runs=40)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=["feedgate", "openssh"])
    arguments = parser.parse_args()
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    with (
        scratch_folder(arguments.scratch, 1 << 20) as folder,
        start_peers(arguments.peers, folder) as peers,
    ):
        for peer in peers:
            peer.sftp("pwd", cwd=folder)  # what only a first login pays for
        for run in range(arguments.runs):
            for peer in peers[run % len(peers) :] + peers[: run % len(peers)]:
                seconds["login", peer.name].append(peer.sftp("pwd", cwd=folder))
        held = report(seconds, BOUNDS, peers)
    return 0 if held else 1


if __name__ == "__main__":
    raise SystemExit(main())
