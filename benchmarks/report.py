"""Options, medians and tables that all benchmarks share."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from peers import Peer

__all__ = [
    "Bound",
    "count_syncs",
    "options",
    "percentile",
    "random_file",
    "report",
    "settle",
    "show_bound",
    "size_bytes",
]

ROOT = Path(__file__).resolve().parents[1]
UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


@dataclass(frozen=True, slots=True)
class Bound:
    """feedgate's median may be at most ``ratio`` times that of ``peer`` in ``work``."""

    work: str
    peer: str
    ratio: float


def options(description: str, *, size: str | None = None) -> argparse.ArgumentParser:
    """The options that every benchmark takes."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5, help="how often; medians are printed")
    parser.add_argument(
        "--scratch", type=Path, default=ROOT / "build" / "benchmarks", help="on a real disk"
    )
    if size is not None:
        parser.add_argument("--size", type=size_bytes, default=size, help="for instance 64M, 1G")
    return parser


def size_bytes(text: str) -> int:
    """``64M`` as bytes."""
    found = re.fullmatch(r"(\d+)([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not found:
        raise argparse.ArgumentTypeError(f"`{text}` is no size")
    return int(found[1]) * UNITS[found[2].upper()]


def random_file(path: Path, size: int) -> None:
    """A file of random bytes, which neither compresses nor has holes."""
    with path.open("wb") as stream:
        for start in range(0, size, 1 << 20):
            stream.write(os.urandom(min(1 << 20, size - start)))


def settle() -> None:
    """Write back what earlier work left dirty, so that the next does not pay for it."""
    os.sync()
    time.sleep(0.1)


def report(
    seconds: Mapping[tuple[str, str], Sequence[float]], bounds: Sequence[Bound], peers: list[Peer]
) -> bool:
    """Print medians, spreads and ratios of (work, peer) → seconds; whether every bound holds."""
    works = list(dict.fromkeys(work for work, _peer in seconds))
    names = [peer.name for peer in peers]
    print(f"\n{'work':<16}" + "".join(f"{name:>26}" for name in names))
    for work in works:
        cells = []
        for name in names:
            taken = seconds[work, name]
            spread = f"{min(taken):.2f}-{max(taken):.2f}"
            cells.append(f"{statistics.median(taken):>12.3f} s ({spread:>10})")
        print(f"{work:<16}" + "".join(f"{cell:>26}" for cell in cells))
    for peer in peers:
        print(f"  {peer.name}: {peer.at_rest}")
    print()
    held = True
    for bound in bounds:
        if {"feedgate", bound.peer} <= set(names):
            ours, theirs = seconds[bound.work, "feedgate"], seconds[bound.work, bound.peer]
            ratio = statistics.median(ours) / statistics.median(theirs)
            runs = [mine / other for mine, other in zip(ours, theirs, strict=True)]
            label = f"{bound.work}: feedgate / {bound.peer} ({min(runs):.2f}-{max(runs):.2f})"
            held &= show_bound(label, ratio, bound.ratio, "x")
    return held


def show_bound(label: str, value: float, bound: float, unit: str) -> bool:
    """Print a figure beside its bound; whether it holds."""
    held = value <= bound
    verdict = "holds" if held else "MISSED"
    print(f"{label:<42} {value:>8.3f} {unit:<4} bound {bound:g} {unit}: {verdict}")
    return held


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least ``percent`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100).__int__() - 1)]


def count_syncs(peer: Peer, work: Callable[[], object]) -> str:
    """Do some work, untimed, and count fsync and fdatasync calls with strace, by process."""
    strace = shutil.which("strace")
    if strace is None:
        return f"{peer.name}: syncs not counted, strace is not here (Debian's strace)"
    calls = peer.folder / "strace"
    words = [strace, "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(calls)]
    for pid in peer.processes():
        words += ["-p", str(pid)]
    tracer = subprocess.Popen(words, stderr=subprocess.PIPE)
    try:
        time.sleep(1)  # strace says nothing when it has attached
        if tracer.poll() is not None:
            said = tracer.stderr.read().decode().strip() if tracer.stderr else ""
            return f"{peer.name}: syncs not counted: {said}"
        work()
        owners = thread_owners(peer)
    finally:
        if tracer.poll() is None:
            tracer.terminate()
        tracer.wait()
    found = re.findall(r"^(\d+) +(fsync|fdatasync)\(", calls.read_text(), re.MULTILINE)
    counts = Counter((owners.get(int(tid), "ended"), name) for tid, name in found)
    told = [f"{count} {name} ({owner})" for (owner, name), count in sorted(counts.items())]
    return f"{peer.name}: {', '.join(told) or 'no fsync, no fdatasync'}"


def thread_owners(peer: Peer) -> dict[int, str]:
    """Thread id → the role of its process, where feedgate gave it one, or `server`."""
    owners = {}
    for pid, words in peer.processes().items():
        role = re.search(r"feedgate\.cli\.processes (\w+)", words)
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                owners[int(task.name)] = role[1] if role else "server"
        except OSError:
            continue  # it ended meanwhile
    return owners
