"""Run the benchmarks one after another and write docs/performance.md from what they print."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"

# script, options, what it shows
BENCHMARKS = (
    ("bench_transfer.py", (), "One file of 1 GiB"),
    ("bench_small_files.py", (), "2,000 files of 4 KiB, one session each way"),
    ("bench_delay.py", (), "The same with 20 ms of delay each way"),
    ("bench_clients.py", (), "Eight clients at once"),
    ("bench_listing.py", (), "A directory of 100,000 names"),
    ("bench_login.py", (), "Logins one after another"),
    ("bench_sessions.py", (), "Memory of an idle session"),
    ("bench_memory.py", (), "Memory of a worker during 5 GiB"),
    ("bench_lag.py", ("--names", "20000"), "Lag of a worker's event loop"),
    ("bench_flood.py", (), "A good client while others flood the door"),
    ("bench_latency.py", (), "From CLOSE to rows"),
    ("bench_startup.py", (), "Start"),
)

HEAD = """# Performance

Written by `benchmarks/performance.py` on {date}, on {machine}.
Each block is what one script printed: feedgate and its peers side by side in one run, medians, with
the bound that the project sets itself beside each figure, held or missed. How they measure:
[benchmarks/README.md](../benchmarks/README.md). feedgate encrypts, records and syncs every file
before it acknowledges it; the peers keep plain files and sync nothing.
"""


def main() -> int:
    """Run what was asked for; blocks of scripts that were not run stay as they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scripts", nargs="*", help="by default all; for instance bench_login.py")
    wanted = set(parser.parse_args().scripts) or {name for name, _options, _title in BENCHMARKS}
    blocks = read_blocks()
    for name, options, title in BENCHMARKS:
        if name not in wanted:
            continue
        print(f"== {name}", flush=True)
        done = subprocess.run(
            [sys.executable, str(ROOT / "benchmarks" / name), *options],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        print(done.stdout)
        if done.returncode in (0, 1):  # 1: a bound is missed, which the block says
            command = " ".join(("python", f"benchmarks/{name}", *options))
            blocks[name] = f"## {title}\n\n```text\n$ {command}\n{done.stdout.strip()}\n```\n"
            write_page(blocks)
    return 0


def read_blocks() -> dict[str, str]:
    """The page's blocks by script, as an earlier run left them."""
    if not PAGE.exists():
        return {}
    found = {}
    for block in PAGE.read_text().split("\n## ")[1:]:
        for name, _options, _title in BENCHMARKS:
            if f"benchmarks/{name}" in block:
                found[name] = f"## {block.rstrip()}\n"
    return found


def write_page(blocks: dict[str, str]) -> None:
    """Put the page together in the order of the table."""
    head = HEAD.format(date=datetime.now(UTC).date().isoformat(), machine=machine())
    ordered = [blocks[name] for name, _options, _title in BENCHMARKS if name in blocks]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join([head, *ordered]))


def machine() -> str:
    """The machine in a few words."""
    model = "an unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"a virtual machine with {os.cpu_count()} cores of {model}, {memory:.0f} GiB,"
        f" Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
