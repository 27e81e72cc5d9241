"""Where a data folder may lie: SQLite's WAL needs shared memory, so not on a network.

https://www.sqlite.org/wal.html: "WAL does not work over a network filesystem".
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from feedgate.errors import CouldNot

__all__ = ["file_system_type", "is_network", "refuse_network_file_system"]

# fmt: off
_NETWORK: Final = frozenset((
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "gfs", "gfs2", "glusterfs", "gpfs",
    "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs", "vboxsf",
))
# fmt: on
# FUSE is anything; these of its forms are a disk of this machine
_LOCAL_FUSE: Final = frozenset(
    ("fuseblk", "fuse.bindfs", "fuse.fuse-overlayfs", "fuse.ntfs-3g", "fuse.gocryptfs")
)


def file_system_type(mountinfo: str, path: str) -> str:
    """The type of the file system that holds the absolute ``path``, by the text of
    ``/proc/self/mountinfo`` (proc(5)); empty when no mount covers it.
    """
    best, kind = "", ""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) < 5 or not right:
            continue
        mount = _unescape(fields[4])
        covers = path == mount or path.startswith(mount.rstrip("/") + "/")
        if covers and len(mount) >= len(best):  # a later mount on the same point hides the earlier
            best, kind = mount, right.split()[0]
    return kind


def is_network(kind: str) -> bool:
    """Whether a file system of this type may be shared with other machines."""
    if kind.startswith("fuse"):
        return kind not in _LOCAL_FUSE
    return kind in _NETWORK


def refuse_network_file_system(folder: Path) -> None:
    """Raise ``CouldNot`` for a folder on a network file system; silent where that is unknown."""
    try:
        mountinfo = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return
    kind = file_system_type(mountinfo, os.path.realpath(folder))
    if is_network(kind):
        raise CouldNot(
            f"the data folder `{folder}` lies on a network file system, `{kind}`",
            hint="choose a folder on a local disk with --data",
        )


def _unescape(field: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
