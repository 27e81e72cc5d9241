"""The SSH host keys: several, 0600, kept; imported, announced, rotated with an overlap.

The rule is AWS Transfer's: the oldest key of each type is the active one, which signs; later ones
of the type are announced to clients that have logged in (``hostkeys-00@openssh.com``), so that they
know them before they become active. A rotation gives the active key a day to retire on.
https://docs.aws.amazon.com/transfer/latest/userguide/server-host-key-add.html

In the folder lie the private keys in OpenSSH's format, under OpenSSH's names, and
``hostkeys.json``, which says what a key file cannot: since when, until when. Invariants: a key file
is written before the list names it and deleted after the list forgot it; a key that the list names
is never made anew, since clients that know the old one would refuse the gateway; writers hold a
lock.

Written and read without asyncssh, whose import the supervisor need not pay for.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from feedgate.errors import Conflict, CouldNot, NotFound, UsageError
from feedgate.gateway.folder import write_atomically
from feedgate.limits import HOST_KEYS_MAX
from feedgate.sftp.keyfiles import KeyFileError, identify, make_private_key

__all__ = [
    "HostKey",
    "HostKeyFolder",
    "HostKeyWatch",
    "ensure_host_keys",
    "host_key_fingerprints",
    "load_host_keys",
]

_LIST: Final = "hostkeys.json"
_LOCK: Final = ".lock"
_VERSION: Final = 1
# made where there is none; the order is that of lists for people
_FIRST: Final = (("ssh-ed25519", "ssh_host_ed25519_key"), ("ssh-rsa", "ssh_host_rsa_key"))
_WORDS: Final = {"ssh-ed25519": "ed25519", "ssh-rsa": "rsa"}


@dataclass(frozen=True, slots=True)
class HostKey:
    """One host key. Times are Unix milliseconds; ``private`` is OpenSSH's PEM form.

    ``type`` is the key's algorithm (``ssh-ed25519``, ``ssh-rsa``, ``ecdsa-sha2-nistp256``…),
    ``host_key_id`` and the rest are named as in AWS's DescribeHostKey.
    """

    host_key_id: str
    type: str
    bits: int
    fingerprint: str
    public_key: str
    file: str
    imported_at_ms: int
    retires_at_ms: int | None = None
    description: str = ""
    state: Literal["ACTIVE", "ANNOUNCED"] = "ACTIVE"
    private: bytes = field(default=b"", repr=False)

    @property
    def word(self) -> str:
        """What a person calls the type: ``ed25519``, ``rsa``, ``ecdsa``."""
        return _WORDS.get(self.type, "ecdsa")


class HostKeyFolder:
    """The host keys of one gateway. Reading never writes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder

    # -- reading --------------------------------------------------------------------------------

    def keys(self, now_ms: int) -> list[HostKey]:
        """The keys in use at ``now_ms``: Ed25519 before RSA before ECDSA, the oldest first.

        Raises:
            CouldNot: there is none, or one that is listed is missing, damaged or readable by
                others.
        """
        entries = self._entries()
        keys = [self._load(entry) for entry in entries if not _is_retired(entry, now_ms)]
        if not keys:
            raise CouldNot(
                f"there is no host key in `{self.path}`",
                hint="restore it from a backup; `feedgate up` makes new ones in an empty folder",
            )
        keys.sort(key=lambda key: (_rank(key.type), key.imported_at_ms, key.host_key_id))
        seen: set[str] = set()
        found = []
        for key in keys:
            found.append(replace(key, state="ANNOUNCED") if key.type in seen else key)
            seen.add(key.type)
        return found

    def stamp(self) -> tuple[int, ...]:
        """Changes with the list."""
        try:
            found = (self.path / _LIST).stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _entries(self) -> list[dict[str, Any]]:
        path = self.path / _LIST
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return self._found()
        except (OSError, UnicodeDecodeError) as error:
            raise CouldNot(f"cannot read `{path}`: {error}") from error
        try:
            body = json.loads(text)
            if body["version"] != _VERSION:
                raise CouldNot(
                    f"`{path}` is of version {body['version']}, this feedgate reads {_VERSION}",
                    hint="run the feedgate that wrote it, or a later one",
                )
            return [_checked(entry) for entry in body["host_keys"]]
        except (ValueError, KeyError, TypeError) as error:
            raise CouldNot(
                f"the list of host keys `{path}` is damaged",
                hint="restore it from a backup; without the list all keys in the folder are used",
            ) from error

    def _found(self) -> list[dict[str, Any]]:
        """Key files without a list: of an older feedgate, or copied from an OpenSSH server."""
        entries = []
        for path in sorted(self.path.glob("ssh_host_*_key*")):
            if path.suffix not in (".pub", ".new") and path.is_file():
                at = path.stat().st_mtime_ns // 1_000_000
                entries.append({"file": path.name, "imported_at_ms": at})
        return entries

    def _load(self, entry: dict[str, Any]) -> HostKey:
        path = self.path / entry["file"]
        content = _read_private(path)
        try:
            public = identify(content)
        except KeyFileError as error:
            raise CouldNot(
                f"the host key `{path}` is damaged: {error}",
                hint="restore it from a backup, or remove it and tell suppliers the new fingerprint"
                f": feedgate hostkey remove --file {path.name}",
            ) from error
        return HostKey(
            host_key_id=public.host_key_id,
            type=public.type,
            bits=public.bits,
            fingerprint=public.fingerprint,
            public_key=public.line,
            file=path.name,
            imported_at_ms=entry["imported_at_ms"],
            retires_at_ms=entry.get("retires_at_ms"),
            description=entry.get("description", ""),
            private=content,
        )

    # -- changing -------------------------------------------------------------------------------

    def ensure(self, now_ms: int) -> bool:
        """Make the first keys where there is none at all; True if so. Forget retired ones.

        Raises:
            CouldNot: the folder cannot be written, or the list is damaged.
        """
        with self._writing() as entries:
            if made := not entries:
                for key_type, name in _FIRST:
                    self._write(name, make_private_key(key_type))
                    entries.append({"file": name, "imported_at_ms": now_ms})
            _forget_retired(entries, now_ms)
        return made

    def forget_retired(self, now_ms: int) -> None:
        """Delete the files of retired keys."""
        with self._writing() as entries:
            _forget_retired(entries, now_ms)

    def add(self, private: bytes, now_ms: int, *, description: str = "") -> HostKey:
        """Take in a private key (OpenSSH's form): active if it is the first of its type.

        Raises:
            Conflict: it is there already, or there are too many.
        """
        public = identify(private)
        with self._writing() as entries:
            _forget_retired(entries, now_ms)
            self._refuse_double(public.host_key_id, entries)
            name = self._free_name(public.type, public.host_key_id)
            self._write(name, private)
            entries.append({"file": name, "imported_at_ms": now_ms, "description": description})
        return self.find(public.host_key_id, now_ms)

    def rotate(self, word: str | None, overlap_ms: int, now_ms: int) -> list[HostKey]:
        """Make a successor for the active key of a type, or of each; the new keys.

        The old ones retire ``overlap_ms`` later, at once where that is 0.

        Raises:
            NotFound: there is no key of that type.
            Conflict: its successor waits already.
        """
        made = []
        with self._writing() as entries:
            _forget_retired(entries, now_ms)
            keys = self.keys(now_ms)
            old = [key for key in keys if key.state == "ACTIVE" and word in (None, key.word)]
            if not old:
                raise NotFound(
                    f"there is no host key of the type `{word}`",
                    hint=f"ssh-keygen -q -t {word} -N '' -f FILE && feedgate hostkey add FILE",
                )
            waiting = {key.type: key for key in keys if key.state == "ANNOUNCED"}
            for key in old:
                if key.type in waiting:
                    name = key.host_key_id
                    raise Conflict(
                        f"{waiting[key.type].host_key_id} waits already to follow {name}",
                        hint=f"to end the overlap now: feedgate hostkey remove {name} --yes",
                    )
            _refuse_too_many(len(entries) + len(old))
            for key in old:
                private = make_private_key(key.type)
                name = self._free_name(key.type, identify(private).host_key_id)
                self._write(name, private)
                entries.append({"file": name, "imported_at_ms": now_ms})
                made.append(identify(private).host_key_id)
                for entry in entries:
                    if entry["file"] == key.file:
                        entry["retires_at_ms"] = now_ms + overlap_ms
            _forget_retired(entries, now_ms)
        return [self.find(host_key_id, now_ms) for host_key_id in made]

    def remove(self, host_key_id: str, now_ms: int) -> HostKey:
        """Take a key out of use and delete it; what it was.

        Raises:
            NotFound: there is none of that name.
            Conflict: it is the only one.
        """
        key = self.find(host_key_id, now_ms)
        with self._writing() as entries:
            rest = [e for e in entries if e["file"] != key.file and not _is_retired(e, now_ms)]
            if not rest:
                raise Conflict(
                    "a gateway needs a host key, and this is the only one",
                    hint="`feedgate hostkey rotate` gives it a successor",
                )
            entries[:] = rest
        return key

    def remove_file(self, name: str) -> None:
        """Take a lost or damaged key off the list by the name of its file.

        Raises:
            NotFound: the list does not name it.
        """
        with self._writing() as entries:
            rest = [entry for entry in entries if entry["file"] != name]
            if len(rest) == len(entries):
                raise NotFound(f"`{self.path / _LIST}` does not name `{name}`")
            entries[:] = rest

    def find(self, name: str, now_ms: int) -> HostKey:
        """The key with that id or fingerprint, or the only one whose id or fingerprint so begins.

        Raises:
            NotFound: there is none.
            UsageError: there are several.
        """
        keys = self.keys(now_ms)
        found = [
            key
            for key in keys
            if any(
                text.startswith(name)
                for text in (key.host_key_id, key.fingerprint, key.fingerprint.partition(":")[2])
            )
        ]
        if not name or not found:
            raise NotFound(f"there is no host key `{name}`", hint="`feedgate hostkey list`")
        if len(found) > 1:
            raise UsageError(f"several host keys begin with `{name}`", hint="give more of it")
        return found[0]

    @contextmanager
    def _writing(self) -> Iterator[list[dict[str, Any]]]:
        """Hold the lock; what is left of the yielded list is written, files off it are deleted."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            lock = os.open(self.path / _LOCK, flags, 0o600)
        except OSError as error:
            raise CouldNot(f"cannot write host keys to `{self.path}`: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self._entries()
            entries = [dict(entry) for entry in before]
            yield entries
            self._keep(before, entries)
        except OSError as error:
            raise CouldNot(f"cannot write host keys to `{self.path}`: {error.strerror}") from error
        finally:
            os.close(lock)

    def _keep(self, before: list[dict[str, Any]], entries: list[dict[str, Any]]) -> None:
        path = self.path / _LIST
        if entries != before or not path.exists():
            write_atomically(path, {"version": _VERSION, "host_keys": entries})
            _sync_directory(self.path)
        kept = {entry["file"] for entry in entries}
        for entry in before:
            if entry["file"] not in kept:
                (self.path / entry["file"]).unlink(missing_ok=True)

    def _write(self, name: str, private: bytes) -> None:
        temporary = self.path / f"{name}.new"
        temporary.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(private)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self.path / name)
        _sync_directory(self.path)

    def _free_name(self, key_type: str, host_key_id: str) -> str:
        name = f"ssh_host_{_WORDS.get(key_type, 'ecdsa')}_key"
        if not (self.path / name).exists():
            return name
        return f"{name}-{host_key_id.removeprefix('hostkey-')}"

    def _refuse_double(self, host_key_id: str, entries: list[dict[str, Any]]) -> None:
        if any(self._load(entry).host_key_id == host_key_id for entry in entries):
            raise Conflict(f"the host key {host_key_id} is there already")
        _refuse_too_many(len(entries) + 1)


def _refuse_too_many(count: int) -> None:
    if count > HOST_KEYS_MAX:
        raise Conflict(
            f"a gateway has {HOST_KEYS_MAX} host keys at most",
            hint="remove one with `feedgate hostkey remove`",
        )


def _checked(entry: Any) -> dict[str, Any]:
    """An entry of the list whose types are right; raises ValueError, KeyError or TypeError."""
    name, at, until = entry["file"], entry["imported_at_ms"], entry.get("retires_at_ms")
    if Path(name).name != name or name.startswith(".") or not isinstance(at, int):
        raise ValueError(name)
    if until is not None and not isinstance(until, int):
        raise ValueError(until)
    return dict(entry)


def _is_retired(entry: dict[str, Any], now_ms: int) -> bool:
    until = entry.get("retires_at_ms")
    return until is not None and until <= now_ms


def _forget_retired(entries: list[dict[str, Any]], now_ms: int) -> None:
    entries[:] = [entry for entry in entries if not _is_retired(entry, now_ms)]


def _rank(key_type: str) -> tuple[int, str]:
    order = ("ssh-ed25519", "ssh-rsa")
    return (order.index(key_type) if key_type in order else len(order)), key_type


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read()
    except OSError as error:
        raise CouldNot(
            f"cannot read the host key `{path}`: {error.strerror}",
            hint="restore it from a backup; it is not made anew, since suppliers know the old one",
        ) from error
    if mode & 0o077:
        raise CouldNot(
            f"the host key `{path}` may be read by others (mode {mode:04o})",
            hint=f"chmod 600 {path}",
        )
    return content


class HostKeyWatch:
    """Tells a running process of changed host keys. ``now`` is Unix seconds."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self._folder = HostKeyFolder(folder)
        self._now = now
        self._stamp: tuple[int, ...] | None = None
        self._due_ms: int | None = None

    def changed(self) -> list[HostKey] | None:
        """The keys in use, if they are others than at the last call; at the first call, all.

        Costs one look at a file. Raises as ``HostKeyFolder.keys``, again at each call until the
        fault is mended.
        """
        now_ms = int(self._now() * 1000)
        stamp = self._folder.stamp()
        if stamp == self._stamp and (self._due_ms is None or now_ms < self._due_ms):
            return None
        keys = self._folder.keys(now_ms)
        self._stamp = stamp
        self._due_ms = min((key.retires_at_ms for key in keys if key.retires_at_ms), default=None)
        return keys

    def private_keys(self) -> Sequence[bytes] | None:
        """As ``changed``, the private keys alone."""
        keys = self.changed()
        return None if keys is None else [key.private for key in keys]


def ensure_host_keys(folder: Path) -> bool:
    """Make Ed25519 and RSA-3072 keys in an empty folder; True if so.

    Raises:
        CouldNot: the folder cannot be written, or its list is damaged.
    """
    return HostKeyFolder(folder).ensure(int(time.time() * 1000))


def load_host_keys(folder: Path) -> list[bytes]:
    """The private keys in OpenSSH's PEM form, Ed25519 first, of each type the active one first.

    Raises:
        CouldNot: see ``HostKeyFolder.keys``.
    """
    return [key.private for key in HostKeyFolder(folder).keys(int(time.time() * 1000))]


def host_key_fingerprints(folder: Path) -> list[str]:
    """``SHA256:…`` of each host key, as ``ssh-keygen -l`` prints it, in the same order.

    Raises:
        CouldNot: see ``HostKeyFolder.keys``.
    """
    return [key.fingerprint for key in HostKeyFolder(folder).keys(int(time.time() * 1000))]
