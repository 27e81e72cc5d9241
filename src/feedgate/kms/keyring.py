"""The embedded form of KMS: a file of KMS keys that wraps data keys with AES-256-GCM.

Wrapped data key (65 bytes): format 1 (1 byte) · version of the KMS key (4 bytes, big-endian) ·
nonce (12) · ciphertext (32) · tag (16). Associated data: canonical JSON of the encryption context,
the KMS key's ARN and its version, so a wrapped key moved to another object, KMS key or version does
not unwrap. Nonces are random: at most 2^32 wraps per version (NIST SP 800-38D §8.3), then rotate.

Invariants: the file is written whole or not at all, under a lock that all processes share; every
process sees a change at its next call; versions are never removed, so what was wrapped unwraps.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from feedgate import limits
from feedgate.errors import Conflict, CouldNot, Integrity, NotFound
from feedgate.kms.envelope import DATA_KEY_BYTES, DataKey, KmsKey

__all__ = ["KeyState", "Keyring", "KeyringKey", "KmsKeyInfo", "KmsKeyVersion"]

KeyState = Literal["Enabled", "Disabled", "PendingDeletion"]  # KMS API Reference, KeyState

_FILE_FORMAT: Final = 1
_WRAP_FORMAT: Final = 1
_HEAD: Final = struct.Struct(">BI")
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_WRAPPED_BYTES: Final = _HEAD.size + _NONCE_BYTES + DATA_KEY_BYTES + _TAG_BYTES
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_DAY_MS: Final = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class KmsKeyVersion:
    """One generation of key material, numbered from 1."""

    number: int
    created_at_ms: int
    material: bytes

    def __repr__(self) -> str:
        return f"KmsKeyVersion(number={self.number}, created_at_ms={self.created_at_ms})"


@dataclass(frozen=True, slots=True)
class KmsKeyInfo:
    """One KMS key as the file has it. ``deletion_at_ms`` is set while PendingDeletion."""

    arn: str
    state: KeyState
    rotation_enabled: bool
    deletion_at_ms: int | None
    versions: tuple[KmsKeyVersion, ...]


class Keyring:
    """The KMS keys of one data folder. Thread-safe; any number of processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loading = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._keys: Mapping[str, KmsKeyInfo] = {}
        self._ciphers: dict[bytes, AESGCM] = {}  # by key material

    @classmethod
    def create(cls, path: Path) -> Keyring:
        """Make an empty keyring, readable by its owner only.

        Raises:
            Conflict: there is one already.
            CouldNot: the file cannot be made.
        """
        keyring = cls(path)
        with keyring._locked():
            if path.exists():
                raise Conflict(f"the keyring `{path}` exists already")
            keyring._write({})
        return keyring

    @classmethod
    def open(cls, path: Path) -> Keyring:
        """Open an existing keyring.

        Raises:
            CouldNot: there is none, others may read it, or a newer feedgate wrote it.
            Integrity: it cannot be parsed.
        """
        keyring = cls(path)
        keyring.kms_keys()
        return keyring

    def key(self, arn: str) -> KeyringKey:
        """The KMS key of that ARN, in whatever state. Raises ``NotFound``."""
        self._info(arn)
        return KeyringKey(self, arn)

    def kms_keys(self) -> Mapping[str, KmsKeyInfo]:
        """Every KMS key by ARN, as the file has them now."""
        try:
            stat = os.stat(self._path)
        except OSError as error:
            raise CouldNot(
                f"cannot read the keyring `{self._path}`: {error.strerror}",
                hint="without it no object can be decrypted; restore it from its backup",
            ) from error
        seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if seen != self._seen:
            with self._loading:
                if stat.st_mode & 0o077:
                    raise CouldNot(
                        f"others may read the keyring `{self._path}`",
                        hint=f"run `chmod 600 {self._path}`",
                    )
                self._keys = _parse(self._path)
                self._ciphers = {}
                self._seen = seen
        return self._keys

    # -- administration ------------------------------------------------------------------------

    def ensure(self, arn: str, *, enable_rotation: bool, now_ms: int) -> None:
        """Make the KMS key if it is absent; otherwise set its rotation, and take back a deletion
        that was scheduled. A disabled key stays disabled.
        """

        def change(known: KmsKeyInfo | None) -> KmsKeyInfo:
            if known is None:
                return KmsKeyInfo(arn, "Enabled", enable_rotation, None, (_version(1, now_ms),))
            if known.state == "PendingDeletion":
                known = replace(known, state="Enabled", deletion_at_ms=None)
            return replace(known, rotation_enabled=enable_rotation)

        self._change(arn, change)

    def rotate(self, arn: str, *, now_ms: int) -> int:
        """Add a version, which wraps from now on; returns its number. Older ones still unwrap."""

        def change(known: KmsKeyInfo | None) -> KmsKeyInfo:
            known = self._known(arn, known)
            number = known.versions[-1].number + 1
            return replace(known, versions=(*known.versions, _version(number, now_ms)))

        return self._change(arn, change).versions[-1].number

    def rotate_due(self, now_ms: int) -> tuple[str, ...]:
        """Rotate each enabled KMS key whose newest version is a year old, if it rotates."""
        due = tuple(
            arn
            for arn, info in self.kms_keys().items()
            if info.rotation_enabled
            and info.state == "Enabled"
            and now_ms - info.versions[-1].created_at_ms >= limits.KMS_ROTATION_DAYS * _DAY_MS
        )
        for arn in due:
            self.rotate(arn, now_ms=now_ms)
        return due

    def set_enabled(self, arn: str, enabled: bool) -> None:
        """EnableKey and DisableKey. Raises ``Conflict`` while its deletion is pending."""

        def change(known: KmsKeyInfo | None) -> KmsKeyInfo:
            known = self._known(arn, known)
            if known.state == "PendingDeletion":
                raise Conflict(f"the KMS key `{arn}` is pending deletion")
            return replace(known, state="Enabled" if enabled else "Disabled")

        self._change(arn, change)

    def schedule_deletion(self, arn: str, *, days: int, now_ms: int) -> None:
        """Make the KMS key unusable now and removable after ``days`` (KMS: 7 to 30).

        One that is pending already keeps its date. Raises ``NotFound``.
        """

        def change(known: KmsKeyInfo | None) -> KmsKeyInfo:
            known = self._known(arn, known)
            if known.state == "PendingDeletion":
                return known
            return replace(known, state="PendingDeletion", deletion_at_ms=now_ms + days * _DAY_MS)

        self._change(arn, change)

    def cancel_deletion(self, arn: str) -> None:
        """Take back a deletion that was scheduled; the KMS key is enabled again at once.

        KMS would leave it disabled (CancelKeyDeletion); here it is taken back because something
        still needs it. One that is not pending stays as it is. Raises ``NotFound``.
        """

        def change(known: KmsKeyInfo | None) -> KmsKeyInfo:
            known = self._known(arn, known)
            if known.state != "PendingDeletion":
                return known
            return replace(known, state="Enabled", deletion_at_ms=None)

        self._change(arn, change)

    def remove(self, arn: str, *, now_ms: int) -> None:
        """Destroy a KMS key whose window has passed: what it wraps is lost.

        Only ever at the operator's word, who names it. Raises ``Conflict`` before its date.
        """
        with self._locked():
            keys = dict(self.kms_keys())
            info = self._known(arn, keys.pop(arn, None))
            if info.deletion_at_ms is None or now_ms < info.deletion_at_ms:
                raise Conflict(
                    f"the KMS key `{arn}` is not due for removal",
                    hint="schedule its deletion and wait until its window has passed",
                )
            self._write(keys)

    # -- inside --------------------------------------------------------------------------------

    def _info(self, arn: str) -> KmsKeyInfo:
        return self._known(arn, self.kms_keys().get(arn))

    def _known(self, arn: str, info: KmsKeyInfo | None) -> KmsKeyInfo:
        if info is None:
            raise NotFound(f"there is no KMS key `{arn}` in the keyring `{self._path}`")
        return info

    def _usable(self, arn: str) -> KmsKeyInfo:
        info = self._info(arn)
        if info.state != "Enabled":
            state = "disabled" if info.state == "Disabled" else "pending deletion"
            raise CouldNot(
                f"the KMS key `{arn}` is {state}",
                hint="enable it, or put it back into the template and apply",
            )
        return info

    def _cipher(self, info: KmsKeyInfo, number: int) -> AESGCM | None:
        if not 1 <= number <= len(info.versions):
            return None
        material = info.versions[number - 1].material
        cipher = self._ciphers.get(material)
        if cipher is None:
            cipher = self._ciphers[material] = AESGCM(material)
        return cipher

    def _change(self, arn: str, change: Callable[[KmsKeyInfo | None], KmsKeyInfo]) -> KmsKeyInfo:
        with self._locked():
            keys = dict(self.kms_keys())
            before = keys.get(arn)
            after = change(before)
            if after != before:
                keys[arn] = after
                self._write(keys)
        return after

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Exclude other processes and, since each opens the file anew, other threads."""
        path = self._path.with_name(self._path.name + ".lock")
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CouldNot(f"cannot lock `{path}`: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _write(self, keys: Mapping[str, KmsKeyInfo]) -> None:
        folder = self._path.parent
        text = json.dumps({"format": _FILE_FORMAT, "kms_keys": _to_json(keys)}, indent=2) + "\n"
        try:
            fd, temporary = tempfile.mkstemp(dir=folder, prefix=f".{self._path.name}.")
            try:
                with os.fdopen(fd, "w", encoding="utf-8") as stream:  # mkstemp made it 0600
                    stream.write(text)
                    stream.flush()
                    os.fsync(stream.fileno())
                os.replace(temporary, self._path)
            except BaseException:
                os.unlink(temporary)
                raise
            folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder_fd)
            finally:
                os.close(folder_fd)
        except OSError as error:
            raise CouldNot(f"cannot write the keyring `{self._path}`: {error.strerror}") from error


class KeyringKey:
    """One KMS key of a keyring: an ``envelope.KmsKey``."""

    __slots__ = ("_keyring", "arn")

    def __init__(self, keyring: Keyring, arn: str) -> None:
        self._keyring = keyring
        self.arn = arn

    def generate_data_key(self, context: Mapping[str, str]) -> DataKey:
        """A fresh data key, wrapped by the newest version.

        Raises:
            CouldNot: the KMS key is disabled or pending deletion.
        """
        plaintext = os.urandom(DATA_KEY_BYTES)
        return DataKey(plaintext, self.wrap(plaintext, context), self.arn)

    def wrap(self, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """Wrap an existing data key, as a rename needs it (KMS: Encrypt)."""
        assert len(plaintext) == DATA_KEY_BYTES
        info = self._keyring._usable(self.arn)  # noqa: SLF001
        number = info.versions[-1].number
        cipher = self._keyring._cipher(info, number)  # noqa: SLF001
        assert cipher is not None
        nonce = os.urandom(_NONCE_BYTES)
        sealed = cipher.encrypt(nonce, plaintext, _associated_data(self.arn, number, context))
        return _HEAD.pack(_WRAP_FORMAT, number) + nonce + sealed

    def decrypt(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Unwrap a data key.

        Raises:
            CouldNot: the KMS key is disabled or pending deletion.
            Integrity: another context, another KMS key, or changed bytes.
        """
        info = self._keyring._usable(self.arn)  # noqa: SLF001
        if len(wrapped) == _WRAPPED_BYTES:
            form, number = _HEAD.unpack_from(wrapped)
            cipher = self._keyring._cipher(info, number)  # noqa: SLF001
            if form == _WRAP_FORMAT and cipher is not None:
                nonce_end = _HEAD.size + _NONCE_BYTES
                try:
                    return cipher.decrypt(
                        wrapped[_HEAD.size : nonce_end],
                        wrapped[nonce_end:],
                        _associated_data(self.arn, number, context),
                    )
                except InvalidTag:
                    pass
        raise Integrity(f"a wrapped data key does not verify under the KMS key `{self.arn}`")


if TYPE_CHECKING:  # the type checker holds the form to its protocol

    def _is_a_kms_key(key: KeyringKey) -> KmsKey:
        return key


def _version(number: int, now_ms: int) -> KmsKeyVersion:
    return KmsKeyVersion(number, now_ms, os.urandom(32))


def _associated_data(arn: str, number: int, context: Mapping[str, str]) -> bytes:
    # JSON quotes every string, so no two different inputs have one text; escapes make it ASCII, so
    # that a key's lone surrogates cannot fail here
    return _canonical({"context": dict(context), "kms_key": arn, "version": number}).encode("ascii")


def _to_json(keys: Mapping[str, KmsKeyInfo]) -> dict[str, Any]:
    return {
        arn: {
            "state": info.state,
            "rotation_enabled": info.rotation_enabled,
            "deletion_at_ms": info.deletion_at_ms,
            "versions": [
                {
                    "number": version.number,
                    "created_at_ms": version.created_at_ms,
                    "material": base64.b64encode(version.material).decode("ascii"),
                }
                for version in info.versions
            ],
        }
        for arn, info in keys.items()
    }


def _parse(path: Path) -> dict[str, KmsKeyInfo]:
    try:
        document = json.loads(path.read_bytes())
        if document["format"] != _FILE_FORMAT:
            raise CouldNot(
                f"the keyring `{path}` has format {document['format']}, this feedgate knows"
                f" {_FILE_FORMAT}",
                hint="install the newer feedgate",
            )
        return {arn: _parse_key(arn, record) for arn, record in document["kms_keys"].items()}
    except OSError as error:
        raise CouldNot(f"cannot read the keyring `{path}`: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Integrity(
            f"the keyring `{path}` is damaged", hint="restore it from its backup"
        ) from error


def _parse_key(arn: str, record: Mapping[str, Any]) -> KmsKeyInfo:
    versions = tuple(
        KmsKeyVersion(
            int(version["number"]),
            int(version["created_at_ms"]),
            base64.b64decode(version["material"], validate=True),
        )
        for version in record["versions"]
    )
    sound = [version.number for version in versions] == list(range(1, len(versions) + 1))
    if not versions or not sound or any(len(version.material) != 32 for version in versions):
        raise ValueError(arn)
    if record["state"] not in get_args(KeyState):
        raise ValueError(arn)
    return KmsKeyInfo(
        arn, record["state"], bool(record["rotation_enabled"]), record["deletion_at_ms"], versions
    )
