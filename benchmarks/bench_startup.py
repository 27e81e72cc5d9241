"""How long `feedgate --help` and `feedgate up` take, as processes of their own."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Sequence

from peers import Feedgate, scratch_folder
from report import options, show_bound

BOUND_HELP_S = 0.15
BOUND_UP_S = 1.5


def main() -> int:
    """Measure, print, and say whether the bounds hold."""
    parser = options(__doc__ or "")
    arguments = parser.parse_args()
    helps: list[float] = []
    firsts: list[float] = []
    agains: list[float] = []
    with scratch_folder(arguments.scratch, 1 << 20) as folder:
        command = [*Feedgate.command(), "--help"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # fills the page cache
        for run in range(arguments.runs):
            begin = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            helps.append(time.perf_counter() - begin)
            peer = Feedgate(folder / f"run{run}")
            peer.init()
            firsts.append(ready_after(peer))
            agains.append(ready_after(peer))
    held = show("feedgate --help", helps, BOUND_HELP_S)
    held &= show("feedgate up, first in its folder", firsts, BOUND_UP_S)
    held &= show("feedgate up, again", agains, BOUND_UP_S)
    return 0 if held else 1


def ready_after(peer: Feedgate) -> float:
    """Seconds from the start of the process until its ready file is there."""
    begin = time.perf_counter()
    peer.start()
    seconds = time.perf_counter() - begin
    peer.stop()
    return seconds


def show(label: str, seconds: Sequence[float], bound: float) -> bool:
    """Print the median and the spread beside the bound."""
    print(f"{label}: {min(seconds):.3f}-{max(seconds):.3f} s in {len(seconds)} runs")
    return show_bound(f"{label}, median", statistics.median(seconds), bound, "s")


if __name__ == "__main__":
    raise SystemExit(main())
