"""The home directory of one SFTP session: what a user may ask of the gateway, and nothing else.

Every path goes through ``mapping`` once; every request to a bucket goes through the judge, inside
``GuardedBucket``. S3's semantics show through where they must: whatever lies under ``dir/`` makes a
directory, MKDIR stores the zero-byte marker ``dir/``, and an upload needs no directory above it.

Errors and what the door makes of them: ``NotFound`` → no such file, ``AccessDenied`` → permission
denied, ``Unsupported`` → operation unsupported, everything else → failure.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from typing import Final

from feedgate.access.guarded import GuardedBucket
from feedgate.database import Database, Transaction
from feedgate.errors import AccessDenied, Conflict, FeedgateError, NotFound, Unsupported
from feedgate.files.commit import Landings, SessionContext
from feedgate.files.deviations import Fidelity
from feedgate.files.download import ReadFile
from feedgate.files.listing import (
    BucketDirectory,
    Directory,
    Entry,
    VirtualDirectory,
    file_entry,
)
from feedgate.files.lookup import exists, find, is_directory, is_missing, may_be_directory
from feedgate.files.mapping import HomeMapping, Mapped, Virtual
from feedgate.files.objects import MODIFIED, Attributes, StoredObject
from feedgate.files.quota import Allowance, Space
from feedgate.files.renaming import Renames
from feedgate.files.upload import UploadThreads, WriteFile, upload_threads
from feedgate.files.writing import HowToOpen, Writing

__all__ = [
    "Attributes",
    "Directory",
    "Entry",
    "HomeDirectory",
    "ReadFile",
    "SessionContext",
    "WriteFile",
]


OWNER: Final = "user-agent-id"  # of an object's metadata: who sent it


class HomeDirectory:
    """One per SFTP session. All requests are awaited one after another by the session.

    ``buckets`` are those of the stack as this session's role may use them. ``on_landed`` is called
    with the landing's id after its commit, before CLOSE is answered; it must not raise.
    """

    def __init__(
        self,
        *,
        context: SessionContext,
        buckets: Mapping[str, GuardedBucket],
        database: Database,
        on_landed: Callable[[str], None] = lambda _landing_id: None,
        crash_at: Callable[[str], None] = lambda _point: None,
        now: Callable[[], float] = time.time,
        randomness: Callable[[int], bytes] = os.urandom,
        threads: UploadThreads | None = None,
        fidelity: Fidelity = Fidelity(),  # noqa: B008 - a value
    ) -> None:
        """Raises ``DefinitionError`` when the user's home directory properties are at fault."""
        self._context = context
        self._mapping = HomeMapping.of(context.user.user)
        self._buckets = buckets
        self._database = database
        self._landings = Landings(context, database, crash_at, now, randomness)
        self._renames = Renames(self._landings)
        self._allowance = Allowance.of(
            context.user.user, self._metadata()[OWNER], self._partial_bytes
        )
        self._fidelity = fidelity
        self._tells_missing = fidelity.ours("missing-key")
        self._is_lost = False
        self._on_landed = on_landed
        self._threads = threads if threads is not None else upload_threads()
        self._writing = Writing(
            self._landings, fidelity, self._threads, self._allowance, self._metadata
        )
        self._uploads: set[WriteFile] = set()
        self._downloads: set[ReadFile] = set()

    # -- names ----------------------------------------------------------------------------------

    async def realpath(self, path: bytes) -> bytes:
        """The absolute form of a path, by its letters: nothing is looked up, so nothing leaks."""
        return self._mapping.normalise(path).encode()

    def s3_path(self, path: bytes) -> str:
        """``/bucket/key``, the form of AWS Transfer's logs; the path where nothing maps it.

        For log lines, so it never raises: bytes that are no path come back readable.
        """
        try:
            found = self._mapping.resolve(path)
        except FeedgateError:
            return path.decode("utf-8", errors="backslashreplace")
        return found.s3_path if isinstance(found, Mapped) else found.path

    async def stat(self, path: bytes) -> Entry:
        """STAT and LSTAT, which do not differ: there are no links.

        The key is looked up first, then whether anything lies under it. A mapping's root and the
        levels above it exist by definition and are not asked about. Where nothing is visible, the
        session that is writing there is told how much it has written, and the user whose upload was
        cut short from where he may resume it; to others there is nothing.

        Raises:
            NotFound, AccessDenied.
        """
        found = self._mapping.resolve(path)
        name = found.path.rpartition("/")[2].encode() or b"/"
        if isinstance(found, Virtual) or (found.is_root and not found.is_file):
            return Entry(name, "directory")
        bucket = self._bucket(found)
        info, refusal = None, None
        try:
            info = self._find(bucket, found.key)
        except AccessDenied as denied:
            refusal = denied
        if info is not None:
            return file_entry(name, info)
        if not found.is_file and is_directory(bucket, found.prefix):
            return Entry(name, "directory")
        size = await self._unfinished_size(bucket, found)
        if size is not None:
            return Entry(name, "file", size)
        raise refusal or NotFound(f"there is nothing at `{found.path}`")

    async def space(self, path: bytes) -> Space:
        """The room that the user has, not the disk's, wherever in his home ``path`` lies.

        Raises:
            NotFound: no mapping covers the path.
        """
        self._mapping.resolve(path)
        return self._allowance.space(self._buckets)

    async def _unfinished_size(self, bucket: GuardedBucket, found: Mapped) -> int | None:
        upload = self._upload_at(found)
        if upload is not None:
            return upload.size
        return await self._writing.partial_size(bucket, found)

    def _upload_at(self, found: Mapped) -> WriteFile | None:
        return next((each for each in self._uploads if each.s3_path == found.s3_path), None)

    async def set_attributes(self, path: bytes, attributes: Attributes) -> None:
        """SETSTAT: a time is kept as metadata, and a size makes a new version, as an upload does.

        Modes and owners are accepted and have no effect. A time alone lands nothing and loads
        nothing anew: the object's version, bytes and LastModified stay.

        Raises:
            NotFound: there is nothing at that path, as far as the user may see.
            AccessDenied: the object may not be written.
            Unsupported, CouldNot: as writing raises it.
        """
        found = self._mapping.resolve(path)
        upload = self._upload_at(found) if isinstance(found, Mapped) else None
        if upload is not None:
            await upload.set_attributes(attributes)
            return
        try:
            entry = await self.stat(path)
        except AccessDenied:
            # who may write and not read still sets the time of what he wrote
            if attributes.size is not None:
                raise
        else:
            if entry.kind == "directory":
                return
            if attributes.size is not None and attributes.size != entry.size:
                await self._set_size(path, attributes)
                return
        if attributes.modified_s is not None:
            await self._set_time(found, attributes.modified_s)

    async def _set_size(self, path: bytes, attributes: Attributes) -> None:
        file = await self.open_write(
            path, create=False, truncate=False, modified_s=attributes.modified_s
        )
        try:
            await file.set_attributes(attributes)
        except BaseException:
            await file.abandon()
            raise
        await file.close()

    async def _set_time(self, found: Mapped | Virtual, modified_s: int) -> None:
        if isinstance(found, Mapped):
            bucket, changes = self._bucket(found), {MODIFIED: str(modified_s)}
            await self._database.write(lambda tx: bucket.set_metadata(tx, found.key, changes))

    # -- files ----------------------------------------------------------------------------------

    async def open_read(self, path: bytes) -> ReadFile:
        """Open an object for reading. Raises ``NotFound``, ``AccessDenied``, ``Conflict``."""
        found = self._file(path)
        bucket = self._bucket(found)
        missing = NotFound(f"there is no file `{found.path}`")
        try:
            reader = bucket.open(found.key)
        except AccessDenied:
            if self._tells_missing and is_missing(bucket, found.key):
                raise missing from None
            raise
        if reader is None:
            raise missing
        file = ReadFile(reader, s3_path=found.s3_path, on_end=self._downloads.discard)
        self._downloads.add(file)
        return file

    async def open_write(
        self,
        path: bytes,
        *,
        create: bool = True,
        truncate: bool = True,
        exclusive: bool = False,
        append: bool = False,
        read: bool = False,
        modified_s: int | None = None,
    ) -> WriteFile:
        """Open for writing. CLOSE makes a new version out of what is there and what was written.

        A refusal by the judge is kept for CLOSE, as on AWS. See ``writing`` for what the file
        holds at first; ``modified_s`` is the time that the client sent along.

        Raises:
            NotFound: no mapping covers the path, or there is no object and ``create`` is not set.
            AccessDenied: what is there must be known, or read, and may not.
            Conflict: it is a directory, or exists and ``exclusive`` is set.
            NoSpace: too little space is left.
        """
        found = self._file_name(path)
        file = await self._writing.open(
            self._bucket(found),
            found,
            HowToOpen(create, truncate, exclusive, append, read, modified_s),
            is_lost=lambda: self._is_lost,
            on_landed=self._on_landed,
            on_end=self._uploads.discard,
        )
        self._uploads.add(file)
        return file

    async def remove(self, path: bytes) -> None:
        """REMOVE a file. Raises ``NotFound``, ``AccessDenied``, ``Conflict`` for a directory."""
        found = self._file(path)
        bucket = self._bucket(found)
        if await self._database.write(lambda tx: bucket.delete(tx, found.key)):
            return
        if await self._writing.drop_partial(bucket, found):
            return
        if not found.is_file and may_be_directory(bucket, found.prefix):
            raise Conflict(f"`{found.path}` is a directory")
        raise NotFound(f"there is no file `{found.path}`")

    async def rename(self, old: bytes, new: bytes, *, replace: bool = False) -> None:
        """RENAME a file or a directory inside its bucket, in one transaction.

        ``replace`` is posix-rename@openssh.com: the new name is taken from a file that has it.

        Raises:
            NotFound, AccessDenied.
            Conflict: the new name is taken, or the old one is of the mapping.
            Unsupported: the two lie in different buckets, or too much lies in the directory.
        """
        source, target = self._file(old), self._file(new)
        if source.bucket != target.bucket:
            raise Unsupported("renaming from one bucket to another is not supported")
        bucket = self._bucket(source)
        if self._find(bucket, source.key) is not None:
            target = self._file_name(new)
            landing_id = await self._renames.file(bucket, source, target, replace=replace)
        elif not source.is_file and may_be_directory(bucket, source.prefix):
            if not self._fidelity.ours("directory-rename"):
                raise Unsupported("Cannot rename a directory")  # AWS Transfer's words
            landing_id = await self._renames.directory(bucket, source, target, replace=replace)
        else:
            raise NotFound(f"there is no file `{source.path}`")
        if landing_id is not None:
            self._on_landed(landing_id)

    # -- directories ----------------------------------------------------------------------------

    async def open_directory(self, path: bytes) -> Directory:
        """OPENDIR: judged by the role alone; the whole role session is judged at the first read.

        Raises:
            NotFound: nothing lies there, or a file does.
            AccessDenied: the role may not list.
        """
        found = self._mapping.resolve(path)
        if isinstance(found, Virtual):
            return VirtualDirectory(found.path, self._virtual_entries(found))
        if found.is_file:
            raise NotFound(f"`{found.path}` is not a directory")
        bucket = self._bucket(found)
        bucket.require("opendir", found.prefix, stage="opendir")
        directory = BucketDirectory(bucket, found.prefix, s3_path=found.s3_path)
        if not directory.open_page() and not found.is_root:
            raise NotFound(f"there is no directory `{found.path}`")
        return directory

    def _virtual_entries(self, level: Virtual) -> list[Entry]:
        entries = []
        for name, child in level.children.items():
            if isinstance(child, Virtual) or not child.is_file:
                entries.append(Entry(name.encode(), "directory"))
                continue
            try:
                info = self._find(self._bucket(child), child.key)
            except AccessDenied:
                entries.append(Entry(name.encode(), "file"))  # named by the mapping, size unknown
                continue
            except NotFound:
                continue
            if info is not None:
                entries.append(file_entry(name.encode(), info))
        return entries

    async def mkdir(self, path: bytes) -> None:
        """MKDIR: store the marker ``dir/``; the levels above need none.

        Raises:
            AccessDenied: the judge refuses the marker.
            Conflict: a file or a directory of that name exists.
        """
        found = self._file(path)
        bucket = self._bucket(found)
        if found.is_file or exists(bucket, found.key) or may_be_directory(bucket, found.prefix):
            raise Conflict(f"`{found.path}` exists already")
        upload = bucket.begin_upload(
            found.prefix, owner=self._context.session_id, metadata=self._metadata()
        )
        try:
            staged = upload.finish()
            await self._landings.publish(bucket, staged, path=found.path, kind="mkdir")
        except Exception:
            upload.abort()
            raise

    async def rmdir(self, path: bytes) -> None:
        """RMDIR: remove the marker of a directory that holds nothing else.

        Raises:
            NotFound: nothing lies there; a directory without a marker ends with its last file.
            AccessDenied.
            Conflict: it is not empty, or is a directory of the mapping, or another tool has given
                its marker bytes, which would be lost unseen.
        """
        found = self._file(path)
        bucket = self._bucket(found)

        def remove(tx: Transaction) -> bool:
            keys = bucket.keys_below_in(tx, found.prefix, 2)
            if set(keys) - {found.prefix}:
                raise Conflict(f"`{found.path}` is not empty")
            if keys and bucket.has_content_in(tx, found.prefix):
                raise Conflict(f"`{found.path}` is an object with content of its own")
            return bool(keys) and bucket.delete(tx, found.prefix)

        if found.is_file or not await self._database.write(remove):
            raise NotFound(f"there is no directory `{found.path}`")

    # -- the end --------------------------------------------------------------------------------

    async def lose(self, file: WriteFile) -> None:
        """The connection ended before this upload's CLOSE. What is refused now is not told.

        Nothing of it becomes visible. As on AWS, what was received is stored where that is asked
        for (``deviations``: partial-upload); its landing says that it is partial.
        """
        if self._fidelity.ours("partial-upload") or not file.size:
            await file.abandon()
            return
        self._is_lost = True  # no CLOSE can follow: whatever lands from here on is partial
        with contextlib.suppress(FeedgateError):
            await file.close()

    async def close(self) -> None:
        """The session is over: abandon what is being written, give back what is being read.

        Never raises. A CLOSE that was received runs to its end.
        """
        for upload in tuple(self._uploads):
            await upload.abandon()
        for download in tuple(self._downloads):
            await download.close()

    # -- helpers --------------------------------------------------------------------------------

    def _file(self, path: bytes) -> Mapped:
        """Where a path lies that is to be a file, or a directory below a mapping's root."""
        found = self._mapping.resolve(path)
        if isinstance(found, Virtual) or (found.is_root and not found.is_file):
            raise Conflict(f"`{found.path}` is a directory of the mapping")
        return found

    def _file_name(self, path: bytes) -> Mapped:
        """Where a file of that name will lie; what ends as only a directory can is refused."""
        found = self._file(path)
        if path.rpartition(b"/")[2] in (b"", b".", b".."):
            raise Conflict(f"`{found.path}` is named as a directory")
        return found

    def _find(self, bucket: GuardedBucket, key: str) -> StoredObject | None:
        return find(bucket, key, by_listing=self._tells_missing)

    def _partial_bytes(self) -> int:
        name = self._context.user.user_name
        return sum(bucket.partial_bytes(name) for bucket in self._buckets.values())

    def _bucket(self, found: Mapped) -> GuardedBucket:
        bucket = self._buckets.get(found.bucket)
        if bucket is None:
            raise NotFound(f"there is no bucket `{found.bucket}`")
        return bucket

    def _metadata(self) -> dict[str, str]:
        """User metadata as AWS Transfer gives it (User Guide, post-processing-upload)."""
        context = self._context
        return {
            "user-agent": "AWSTransfer",
            OWNER: f"{context.user.user_name}@{context.server_id}",
        }
