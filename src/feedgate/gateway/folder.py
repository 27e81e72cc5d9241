"""The data folder: where a gateway keeps everything that outlives a process.

::

    .feedgate/
      feedgate.sqlite    index, ledger, users, applied definition
      parts/00 … ff/     sealed parts of objects
      keyring.json       KMS keys (0600)
      hostkeys/          SSH host keys (0600)
      warehouse/         DuckDB files, encrypted
      query.sock         operator's queries while the gateway runs (0600)
      run.json           who is running here, and on which port
      gateway.log        JSON lines
      audit.log          one decision a line
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feedgate.errors import Conflict, CouldNot
from feedgate.limits import LOCK_TRIES

__all__ = ["DataFolder", "RunLock", "write_atomically"]


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Paths inside the data folder; ``create`` makes what is missing, for its owner only."""

    root: Path

    @classmethod
    def create(cls, root: Path) -> DataFolder:
        """Make the folder (0700) if need be."""
        folder = cls(root.absolute())
        try:
            folder.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            _require_own(folder.root)
            for path in (folder.hostkeys, folder.warehouse):
                path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise CouldNot(
                f"cannot make the data folder `{root}`: {error.strerror}",
                hint="choose another with --data",
            ) from error
        return folder

    @classmethod
    def existing(cls, root: Path) -> DataFolder:
        """The folder of a gateway that has run before.

        Raises:
            CouldNot: no gateway has run here yet.
        """
        folder = cls(root.absolute())
        if not folder.database.exists():
            raise CouldNot(
                f"no gateway has run in `{root}` yet",
                hint="start one with `feedgate up`, or name its folder with --data",
            )
        return folder

    @property
    def database(self) -> Path:
        return self.root / "feedgate.sqlite"

    @property
    def keyring(self) -> Path:
        return self.root / "keyring.json"

    @property
    def hostkeys(self) -> Path:
        return self.root / "hostkeys"

    @property
    def warehouse(self) -> Path:
        return self.root / "warehouse"

    @property
    def query_socket(self) -> Path:
        return self.root / "query.sock"

    @property
    def loader_socket(self) -> Path:
        return self.root / "loader.sock"

    @property
    def run_file(self) -> Path:
        return self.root / "run.json"

    @property
    def log_file(self) -> Path:
        return self.root / "gateway.log"

    @property
    def audit_file(self) -> Path:
        return self.root / "audit.log"

    @property
    def test_marker(self) -> Path:
        return self.root / ".feedgate-test"

    def running(self) -> dict[str, Any] | None:
        """What ``run.json`` says, if the supervisor that wrote it still holds the lock."""
        lock = RunLock(self)
        if not lock.held_by_another():
            return None
        try:
            record: dict[str, Any] = json.loads(self.run_file.read_text())
        except (OSError, ValueError):
            return None
        return record


class RunLock:
    """One supervisor per data folder: ``flock`` on ``gateway.lock`` ends with the process."""

    def __init__(self, folder: DataFolder) -> None:
        self._path = folder.root / "gateway.lock"
        self._fd: int | None = None

    def acquire(self) -> None:
        """Raises ``Conflict`` when another gateway serves this folder."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self._path, flags, 0o600)
        for attempt in range(LOCK_TRIES):  # `status` takes it for a moment to look
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if attempt + 1 < LOCK_TRIES:
                    time.sleep(0.02)
                    continue
                os.close(fd)
                raise Conflict(
                    f"a gateway is already running in `{self._path.parent}`",
                    hint="`feedgate status` shows it, `feedgate down` stops it",
                ) from error
            self._fd = fd
            return

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def held_by_another(self) -> bool:
        """Whether some process holds it now."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False


def _require_own(root: Path) -> None:
    """A data folder is its owner's alone: keys and suppliers' files lie in it."""
    found = root.stat()
    if found.st_uid != os.geteuid():
        raise CouldNot(
            f"the data folder `{root}` belongs to another user (uid {found.st_uid})",
            hint="run feedgate as that user, or choose another folder with --data",
        )
    if found.st_mode & 0o077:
        root.chmod(0o700)


def write_atomically(path: Path, value: Mapping[str, Any] | str, *, mode: int = 0o600) -> None:
    """Write a whole file or nothing: temporary beside it, fsync, rename."""
    text = value if isinstance(value, str) else json.dumps(value, indent=2) + "\n"
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
