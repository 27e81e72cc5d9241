"""Memory of feedgate's worker while a very big file is put and got."""

from __future__ import annotations

import re
import threading
from pathlib import Path

from peers import Feedgate, Peer, scratch_folder, start_peers
from report import options, show_bound

BOUND_MIB = 200
SAMPLE_S = 0.05


class Sampler(threading.Thread):
    """Reads a process's resident set 20 times a second; ``peak_kib`` is the largest seen."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.status = Path(f"/proc/{pid}/status")
        self.peak_kib = 0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(SAMPLE_S):
            self.peak_kib = max(self.peak_kib, self.read("VmRSS"))

    def read(self, name: str) -> int:
        """A figure of the process, KiB."""
        found = re.search(rf"^{name}:\s+(\d+) kB", self.status.read_text(), re.MULTILINE)
        return int(found[1]) if found else 0


def main() -> int:
    """Measure, print, and say whether the bound holds."""
    parser = options(__doc__ or "", size="5G")
    arguments = parser.parse_args()
    Feedgate.more_options = ("--workers", "1")
    with (
        scratch_folder(arguments.scratch, 3 * arguments.size) as folder,
        start_peers(["feedgate"], folder) as (peer,),
    ):
        assert isinstance(peer, Feedgate)
        # A sparse source costs no time to make; what the gateway stores of it is ciphertext.
        source = folder / "source.bin"
        with source.open("wb") as stream:
            stream.truncate(arguments.size)
        peer.sftp("pwd", cwd=folder)
        worker = peer.worker()
        idle = Sampler(worker).read("VmRSS")
        print(f"worker, after a first login: {idle / 1024:.0f} MiB")
        held = True
        for work, command in (("put", "put source.bin"), ("get", "get source.bin back.bin")):
            peak_kib, seconds = sampled(peer, worker, command, folder)
            print(f"{work} of {arguments.size >> 20} MiB took {seconds:.1f} s")
            held &= show_bound(f"worker's RSS, {work}", peak_kib / 1024, BOUND_MIB, "MiB")
        kernel_peak = Sampler(worker).read("VmHWM") / 1024
        held &= show_bound("worker's RSS, the kernel's own peak", kernel_peak, BOUND_MIB, "MiB")
    return 0 if held else 1


def sampled(peer: Peer, worker: int, command: str, folder: Path) -> tuple[int, float]:
    """Run a command; the worker's largest resident set meanwhile, KiB, and the seconds."""
    sampler = Sampler(worker)
    sampler.start()
    seconds = peer.sftp(command, cwd=folder)
    sampler.done.set()
    sampler.join()
    return sampler.peak_kib, seconds


if __name__ == "__main__":
    raise SystemExit(main())
