"""Part files: ``parts/<first two hex digits of the object id>/<object id>.<part number>``.

Invariant: the 256 directories exist and are durable before the first part is written, so making a
part durable is fdatasync of its file and fsync of its directory, in that order. A failed sync is
final: the kernel may call the lost pages clean, so a second try would prove nothing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from feedgate import limits
from feedgate.errors import CouldNot, FeedgateError, NoSpace

__all__ = ["FirstError", "PartFiles", "SpaceFloor", "disk_error"]


def disk_error(error: OSError, what: str) -> CouldNot:
    """Our error for the operating system's: ``NoSpace`` where the disk or a quota is full."""
    kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else CouldNot
    return kind(f"could not {what}: {os.strerror(error.errno or 0)}")


class FirstError:
    """Tells ``fail`` of an upload's first error, the operating system's as one of ours."""

    __slots__ = ("_fail",)

    def __init__(self, fail: Callable[[FeedgateError], None]) -> None:
        self._fail = fail

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, FeedgateError):
            self._fail(error)
        elif isinstance(error, OSError):
            failed = disk_error(error, "write the object")
            self._fail(failed)
            raise failed from error


class PartFiles:
    """The ``parts`` folder of one data folder. Thread-safe; holds no state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "parts"
        try:
            if not (self.folder / "ff").is_dir():
                self._prepare()
        except OSError as error:
            raise disk_error(error, f"make `{self.folder}`") from error

    def _prepare(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(256):
            (self.folder / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)
        _sync_directory(self.folder)
        _sync_directory(self.folder.parent)

    def path(self, object_id: str, number: int) -> Path:
        """Where that part lies."""
        return self.folder / object_id[:2] / f"{object_id}.{number}"

    def create(self, object_id: str, number: int) -> int:
        """A new part's file descriptor, for writing and reading back."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(self.path(object_id, number), flags, 0o600)

    def open(self, object_id: str, number: int) -> int:
        """An existing part's file descriptor; it stays readable when the part is removed."""
        return os.open(self.path(object_id, number), os.O_RDONLY | os.O_CLOEXEC)

    def sync_directory(self, object_id: str) -> None:
        """Make the names of the object's parts durable."""
        _sync_directory(self.folder / object_id[:2])

    def remove_all(self, object_ids: Iterable[str]) -> int:
        """Unlink every part of these objects durably; how many there were."""
        by_directory: dict[str, set[str]] = {}
        for object_id in object_ids:
            by_directory.setdefault(object_id[:2], set()).add(object_id)
        removed = 0
        for name, wanted in by_directory.items():
            directory = self.folder / name
            with os.scandir(directory) as entries:
                doomed = [entry.path for entry in entries if entry.name.split(".")[0] in wanted]
            for path in doomed:
                os.unlink(path)
            removed += len(doomed)
            _sync_directory(directory)
        return removed


class SpaceFloor:
    """Refuses new bytes while free space is below a floor; recovers by itself.

    ``floor_bytes`` None means ``limits``: 5 % of the file system or 1 GiB, whichever is smaller.
    """

    def __init__(self, folder: Path, floor_bytes: int | None = None) -> None:
        self._folder = folder
        self._floor_bytes = floor_bytes

    def check(self) -> None:
        """Raise ``NoSpace`` when free space is below the floor."""
        stat = os.statvfs(self._folder)
        free = stat.f_bavail * stat.f_frsize
        floor = self._floor_bytes
        if floor is None:
            fraction = int(stat.f_blocks * stat.f_frsize * limits.FREE_SPACE_FLOOR_FRACTION)
            floor = min(fraction, limits.FREE_SPACE_FLOOR_BYTES)
        if free < floor:
            raise NoSpace(
                f"no space: {free >> 20} MiB are free, the floor is {floor >> 20} MiB",
                hint="free some space; uploads go on by themselves then",
            )


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
