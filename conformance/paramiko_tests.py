"""paramiko's own SFTP tests, from its source distribution on PyPI, against the gateway."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from results import Missing, Suite
from scratch import downloads

__all__ = ["run_paramiko"]

FILES = ("__init__.py", "_util.py", "_loop.py", "_stub_sftp.py", "test_sftp.py", "test_sftp_big.py")
CONFTEST = Path(__file__).with_name("paramiko_conftest.py")


def run_paramiko(gateway: Any, folder: Path) -> Suite:
    """Each test is a case."""
    suite = Suite("paramiko", version("paramiko"))
    source = _source(suite.version)
    tests = folder / "paramiko" / "tests"
    tests.mkdir(parents=True)
    for name in FILES:
        if (source / "tests" / name).exists():
            shutil.copy(source / "tests" / name, tests)
    shutil.copytree(source / "tests" / "_support", tests / "_support")
    shutil.copy(CONFTEST, tests / "conftest.py")
    report = folder / "paramiko.xml"
    environment = {
        **os.environ,
        "GATEWAY_PORT": str(gateway.port),
        "GATEWAY_KEY": str(gateway.key),
        "GATEWAY_USER": gateway.user,
        "PYTHONPATH": str(tests.parent),
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"),
            *("-c", os.devnull, "--rootdir", str(tests.parent), f"--junit-xml={report}"),
            *("--timeout", "90"),
        ],
        cwd=tests.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if not report.exists():
        raise SystemExit(f"paramiko's tests did not run:\n{done.stdout}{done.stderr}")
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - pytest's own
        name = f"{str(case.get('classname')).rpartition('.')[2]}.{case.get('name')}"
        skip = case.find("skipped")
        fault = case.find("failure")
        if fault is None:
            fault = case.find("error")
        if skip is not None:
            suite.skipped[name] = str(skip.get("message"))
        else:
            suite.add(name, None if fault is None else str(fault.get("message")))
    return suite


def _source(wanted: str) -> Path:
    """The unpacked source distribution of the version that is installed."""
    folder = downloads()
    unpacked = folder / f"paramiko-{wanted}"
    if not unpacked.exists():
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        words += ["--disable-pip-version-check", "--no-binary", ":all:", "--dest", str(folder)]
        done = subprocess.run(
            [*words, f"paramiko=={wanted}"], capture_output=True, text=True, check=False
        )
        archive = folder / f"paramiko-{wanted}.tar.gz"
        if done.returncode or not archive.exists():
            raise Missing(f"paramiko's source is not here: {done.stderr.strip()[-200:]}")
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    return unpacked
