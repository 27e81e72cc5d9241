"""OpenSSH's own regress scripts for sftp, from Debian's openssh-tests, over an sshfs mount.

The scripts compare "remote" files with `cmp` and `test`, so the gateway's files must be seen under
the same path on this machine: sshfs mounts the gateway's PATH at PATH. That makes sshfs a client
under test as well.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from results import Missing, Suite
from scratch import downloads, program, ssh_options

__all__ = ["run_openssh"]

SCRIPTS = ("sftp", "sftp-cmds", "sftp-badcmds", "sftp-batch", "sftp-glob")
REGRESS = Path("usr/lib/openssh/regress")
PACKAGES = "Debian's sshfs and fuse3"
DATA_BYTES = 24_000
STEPS = Path(__file__).with_name("openssh_steps.sh")


def run_openssh(gateway: Any, folder: Path) -> Suite:
    """Each `verbose` line of a script is a case; a `fail` belongs to the case before it."""
    suite = Suite("openssh")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise Missing("no access to /dev/fuse: run as root, or in a container with that device")
    sshfs, unmount = program("sshfs", PACKAGES), program("fusermount3", PACKAGES)
    regress, suite.version = _regress()
    os.environ["PATH"] += ":/usr/sbin:/sbin"

    wrapper = folder / "sftp-server"
    control = ["-o", "ControlMaster=auto", "-o", f"ControlPath={folder / 'master'}"]
    words = [*ssh_options(gateway), *control, "-o", "ControlPersist=20", "-s"]
    ssh = " ".join(["exec", program("ssh", "openssh-client"), "-q", *words])
    wrapper.write_text(f"#!/bin/sh\n{ssh} {gateway.user}@127.0.0.1 sftp\n")
    wrapper.chmod(0o755)

    mount = folder / "mount"
    with _mounted(gateway, sshfs, unmount, mount):
        data = folder / "data"
        data.write_bytes(os.urandom(DATA_BYTES))
        globbed = _globbed(gateway, folder)
        environment = {
            **os.environ,
            "OBJ": str(mount),
            "DATA_FILE": str(data),
            "WRAPPER": str(wrapper),
        }
        for name in SCRIPTS:
            done = subprocess.run(
                ["bash", str(STEPS), str(regress / f"{name}.sh")],
                cwd=globbed,
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=300,
                check=False,
            )
            _note_steps(suite, name, done.stdout, done.stderr)
    master = [program("ssh", "openssh-client"), *ssh_options(gateway), *control]
    subprocess.run(
        [*master, "-O", "exit", f"{gateway.user}@127.0.0.1"], capture_output=True, check=False
    )
    return suite


def _regress() -> tuple[Path, str]:
    """The scripts' folder and the package's version; unpacked here, or as installed."""
    installed = Path("/") / REGRESS
    if (installed / "sftp.sh").exists():
        return installed, "as installed"
    folder = downloads() / "openssh-tests"
    if not (folder / REGRESS / "sftp.sh").exists():
        folder.mkdir(exist_ok=True)
        fetch = ["apt-get", "-qq", "download", "openssh-tests"]
        done = subprocess.run(fetch, cwd=folder, capture_output=True, text=True, check=False)
        packages = sorted(folder.glob("openssh-tests_*.deb"))
        if done.returncode or not packages:
            said = done.stderr.strip().rpartition("\n")[2] or "no package"
            raise Missing(
                f"the regress scripts are not here: apt-get install openssh-tests ({said})"
            )
        subprocess.run(["dpkg", "-x", str(packages[-1]), str(folder)], check=True)
    package = next(folder.glob("openssh-tests_*.deb"))
    return folder / REGRESS, package.name.split("_")[1].replace("%3a", ":")


@contextmanager
def _mounted(gateway: Any, sshfs: str, unmount: str, mount: Path) -> Iterator[None]:
    """The gateway's directory of the mount's name, mounted there, nothing cached."""
    made = gateway.sftp(*(f"-mkdir {parent}" for parent in [*reversed(mount.parents), mount][1:]))
    assert made.returncode == 0, made.stderr
    mount.mkdir()
    cache = "dir_cache=no,attr_timeout=0,entry_timeout=0,negative_timeout=0,direct_io"
    words = [sshfs, *ssh_options(gateway), "-o", cache, f"{gateway.user}@127.0.0.1:{mount}"]
    done = subprocess.run([*words, str(mount)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"sshfs cannot mount: {done.stderr.strip()}")
    try:
        yield
    finally:
        for _ in range(20):
            ended = subprocess.run([unmount, "-u", str(mount)], capture_output=True, check=False)
            if ended.returncode == 0:
                break
            time.sleep(0.1)


def _globbed(gateway: Any, folder: Path) -> Path:
    """What the scripts' `get /bin/l*` finds: the programs of two letters, there and here.

    The scripts compare those that the working directory has, too, so it gets files of these names.
    """
    here = folder / "globbed"
    here.mkdir()
    programs = [path for path in Path("/bin").glob("l?") if path.is_file()]
    for path in programs:
        (here / path.name).touch()
    done = gateway.sftp("-mkdir /bin", *(f"put {path} /bin/{path.name}" for path in programs))
    assert done.returncode == 0, done.stderr
    return here


def _note_steps(suite: Suite, script: str, output: str, errors: str) -> None:
    step, failures, seen = None, [], set()
    lines = output.splitlines()
    if lines[-1:] != ["DONE"]:
        lines.append(f"FAIL the script ended early: {errors.strip()[-200:]}")

    def end() -> None:
        if step is not None:
            suite.add(step, "; ".join(failures) if failures else None)

    for line in lines:
        word, _, text = line.partition(" ")
        if word == "STEP":
            end()
            title = re.sub(r"^(test )?[a-z/ ]+: ", "", text)
            step, failures = f"{script}: {title}", []
            while step in seen:
                step += "'"
            seen.add(step)
        elif word == "FAIL":
            if step is None:
                step = f"{script}: start"
            failures.append(text)
    end()
