"""Runs a fuzzer: `fuzz/run.py packets|mapping|session --seconds N`. See fuzz/README.md.

Uses atheris (coverage-guided, libFuzzer) where it is installed, else damages the corpus blindly.
"""

# ruff: noqa: T201, PLC0415 - what a command prints; atheris instruments what is imported late

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

from mutate import damaged

HERE = Path(__file__).parent
PACKAGES = HERE.parent / "build" / "clients" / "python"
FOUND = HERE.parent / "build" / "fuzz"


def corpus(name: str) -> list[bytes]:
    """The inputs kept for a target."""
    inputs = [path.read_bytes() for path in sorted((HERE / "corpus" / name).iterdir())]
    if not inputs:
        raise SystemExit(f"fuzz/corpus/{name} is empty")
    return inputs


def blindly(name: str, seconds: float, seed: int) -> None:
    """Damage the corpus until the time is up; an input that breaks a property is kept."""
    from properties import PROPERTIES

    check, inputs, count = PROPERTIES[name], corpus(name), 0
    for data in inputs:
        check(data)
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        data = damaged(rng.choice(inputs), rng)
        try:
            check(data)
        except Exception:
            kept = FOUND / f"{name}-{seed}-{count}"
            kept.write_bytes(data)
            print(f"{name}: broken by {kept} (seed {seed})", file=sys.stderr)
            raise
        count += 1
    print(f"{name}: {count} inputs, seed {seed}, no coverage guidance")


def guided(name: str, seconds: float, seed: int) -> None:
    """Let libFuzzer look for new paths; does not return."""
    sys.path.append(str(PACKAGES))
    import atheris

    with atheris.instrument_imports(include=["feedgate.sftp.packets", "feedgate.files.mapping"]):
        from properties import PROPERTIES

    grown = FOUND / name
    grown.mkdir(exist_ok=True)
    options = [f"-max_total_time={int(seconds)}", f"-seed={seed}", f"-artifact_prefix={FOUND}/"]
    words = [sys.argv[0], *options, "-max_len=8192", "-verbosity=1", "-print_final_stats=1"]
    atheris.Setup([*words, str(grown), str(HERE / "corpus" / name)], PROPERTIES[name])
    atheris.Fuzz()


def main() -> None:
    """Choose and run."""
    parser = argparse.ArgumentParser(prog="fuzz/run.py", description=__doc__)
    parser.add_argument("target", choices=["packets", "mapping", "session"])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--blind", action="store_true", help="without atheris")
    options = parser.parse_args()
    FOUND.mkdir(parents=True, exist_ok=True)
    if options.target == "session":
        from session import damage_sessions

        count = damage_sessions(options.seconds, options.seed)
        print(f"session: {count} sessions, seed {options.seed}")
    elif options.blind or not (PACKAGES / "atheris").exists():
        blindly(options.target, options.seconds, options.seed)
    else:
        guided(options.target, options.seconds, options.seed)


if __name__ == "__main__":
    main()
