"""Where a data folder may lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedgate.database.place import file_system_type, is_network, refuse_network_file_system

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /srv/share rw - nfs4 server:/share rw
31 30 254:1 / /srv/share/disk rw - xfs /dev/vdb rw
32 22 0:41 / /mnt/two\\040words rw - fuse.sshfs host:/ rw
33 22 0:42 / /data rw - ext4 /dev/vdc rw
34 22 0:43 / /data rw - cifs //server/data rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/home/x", "ext4"),
        ("/srv/share", "nfs4"),
        ("/srv/share/a", "nfs4"),
        ("/srv/share/disk/a", "xfs"),
        ("/srv/shared", "ext4"),
        ("/mnt/two words/a", "fuse.sshfs"),
        ("/data/a", "cifs"),
    ],
)
def test_type_is_that_of_the_innermost_mount(path: str, kind: str) -> None:
    """The longest mount point that covers the path decides, the later one where two are equal."""
    assert file_system_type(MOUNTS, path) == kind


@pytest.mark.parametrize(
    ("kind", "network"),
    [
        ("ext4", False),
        ("xfs", False),
        ("overlay", False),
        ("tmpfs", False),
        ("nfs4", True),
        ("cifs", True),
        ("9p", True),
        ("fuse.sshfs", True),
        ("fuse", True),
        ("fuseblk", False),
        ("fuse.fuse-overlayfs", False),
    ],
)
def test_network_file_systems_are_known(kind: str, network: bool) -> None:
    """NFS, SMB, 9p and FUSE of unknown kind count as network file systems."""
    assert is_network(kind) is network


def test_local_folder_is_accepted(tmp_path: Path) -> None:
    """The folder that the tests run in is accepted."""
    refuse_network_file_system(tmp_path)
    assert tmp_path.is_dir()
