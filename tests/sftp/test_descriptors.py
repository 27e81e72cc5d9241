"""Descriptors: the soft limit is raised, and handles leave room for everything else."""

from __future__ import annotations

import subprocess
import sys

import pytest

from feedgate.limits import DESCRIPTORS_WANTED, OPEN_HANDLES_MAX, OPEN_HANDLES_MIN
from feedgate.sftp.descriptors import handles_that_fit

RAISE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, int(sys.argv[1])))
from feedgate.sftp.descriptors import raise_descriptor_limit
print(raise_descriptor_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("hard", "soft"), [(1_024, 1_024), (DESCRIPTORS_WANTED + 1, DESCRIPTORS_WANTED)]
)
def test_the_soft_limit_is_raised(hard: int, soft: int) -> None:
    """To the hard limit, or as far as it can be of use; the hard limit stays."""
    command = [sys.executable, "-c", RAISE, str(hard)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said.split() == [str(soft), str(soft), str(hard)]


@pytest.mark.parametrize(
    ("descriptors", "handles"),
    [(64, OPEN_HANDLES_MIN), (1_024, 384), (4_096, 1_920), (DESCRIPTORS_WANTED, OPEN_HANDLES_MAX)],
)
def test_handles_leave_room(descriptors: int, handles: int) -> None:
    """Half of what the process does not need itself, within bounds."""
    assert handles_that_fit(descriptors) == handles
