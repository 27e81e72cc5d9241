"""Opening files for writing: what a file holds before the first write, and who may go on with it.

Without truncation an object's bytes lie beneath what is written; CLOSE lands a new version, unless
somebody else landed one meanwhile. Where no object is visible, what the same user's lost connection
left is gone on with. Where both are there, only a client that begins at the object's start, or at
the partial's end, can mean one of them: OpenSSH's ``reput`` asks STAT, is told of the object, and
would join the end of the new file to the beginning of the old one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from feedgate.access.guarded import GuardedBucket
from feedgate.errors import AccessDenied, Conflict, NotFound
from feedgate.files.commit import Landings
from feedgate.files.deviations import Fidelity
from feedgate.files.lookup import find
from feedgate.files.mapping import Mapped
from feedgate.files.objects import Opened, Staged, StoredObject, StoredUpload
from feedgate.files.quota import Allowance
from feedgate.files.upload import BLANK, Beginning, UploadThreads, WriteFile

__all__ = ["HowToOpen", "Writing"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HowToOpen:
    """The flags of OPEN (SFTP draft 02, 6.3), and the time that came with it."""

    create: bool = True
    truncate: bool = True
    exclusive: bool = False
    append: bool = False
    read: bool = False
    modified_s: int | None = None

    @property
    def is_empty_at_first(self) -> bool:
        """Whether the file begins empty, whatever is there."""
        return self.truncate or (self.create and self.exclusive)


@dataclass(slots=True)
class _Found:
    """What there is at a key that is to be written, as far as the user may know."""

    upload: StoredUpload | None = None
    over: StoredObject | None = None
    beginning: Beginning = BLANK


class Writing:
    """Files that one session writes. ``metadata`` is what AWS Transfer gives each object."""

    def __init__(
        self,
        landings: Landings,
        fidelity: Fidelity,
        threads: UploadThreads,
        allowance: Allowance,
        metadata: Callable[[], dict[str, str]],
    ) -> None:
        self._landings = landings
        self._threads = threads
        self._allowance = allowance
        self._metadata = metadata
        self._user = landings.context.user.user_name
        self._resumes = fidelity.ours("resume")
        self._tells_missing = fidelity.ours("missing-key")

    async def open(
        self,
        bucket: GuardedBucket,
        found: Mapped,
        how: HowToOpen,
        *,
        is_lost: Callable[[], bool],
        on_landed: Callable[[str], None],
        on_end: Callable[[WriteFile], None],
    ) -> WriteFile:
        """Open a file for writing. ``is_lost``: whether it lands though its session was lost.

        Raises:
            NotFound: there is no object and ``create`` is not set.
            AccessDenied: what the flags depend on may not be seen.
            Conflict: it is a directory, or exists and is to be made.
            NoSpace: too little space is left.
        """
        refusal: AccessDenied | None = None
        at = _Found()
        try:
            at = await self._begin(bucket, found, how)
        except _RefusedError as refused:
            refusal = refused.denied
        if at.upload is not None and bucket.would_hide(found.key):
            at.upload.abort()
            raise Conflict(f"`{found.path}` is a directory")

        def publish(staged: Staged) -> Awaitable[str]:
            return self._landings.publish(
                bucket,
                staged,
                path=found.path,
                exclusive=how.exclusive,
                over=at.over,
                at_once=self._threads.open_uploads <= 1,
                is_partial=is_lost(),
                allowance=self._allowance,
            )

        return WriteFile(
            room=self._allowance.room(bucket, found.key) if at.upload is not None else None,
            s3_path=found.s3_path,
            upload=at.upload,
            refusal=refusal,
            publish=publish,
            threads=self._threads,
            beginning=at.beginning,
            append=how.append,
            modified_s=how.modified_s,
            on_landed=on_landed,
            on_end=on_end,
        )

    async def _begin(self, bucket: GuardedBucket, found: Mapped, how: HowToOpen) -> _Found:
        may_resume = self._resumes and bucket.has_partial(found.key, self._user)
        info, unseen = None, None
        if how.exclusive or not how.create or not how.truncate:
            try:
                info = self._look(bucket, found, how)
            except AccessDenied as denied:
                if how.exclusive or not how.create or how.read:
                    raise
                unseen = denied
        if how.is_empty_at_first:
            if may_resume:
                # what it holds belongs to other bytes than those that come now
                await self._in_thread(lambda: bucket.drop_partials(found.key, self._user))
            return _Found(self._begin_upload(bucket, found))
        if info is not None and self._resumes:
            return self._begin_over(bucket, found, await self.partial_size(bucket, found))
        if may_resume:
            resumed = await self._resume(bucket, found, how)
            if resumed is not None:
                return resumed
        if info is None and not how.create:
            raise NotFound(f"there is no file `{found.path}`")
        beginning = BLANK
        if unseen is not None:
            beginning = Beginning(True, unseen, (), "what is there may not be read")
        elif info is not None:
            beginning = Beginning(True, None, (), "AWS Transfer does not resume")
        return _Found(self._begin_upload(bucket, found), beginning=beginning)

    def _look(self, bucket: GuardedBucket, found: Mapped, how: HowToOpen) -> StoredObject | None:
        info = find(bucket, found.key, by_listing=self._tells_missing)
        if info is not None and how.create and how.exclusive:
            raise Conflict(f"`{found.path}` exists already")
        if info is None and not how.create and how.truncate:
            raise NotFound(f"there is no file `{found.path}`")
        return info

    def _begin_over(self, bucket: GuardedBucket, found: Mapped, partial_size: int | None) -> _Found:
        reader = bucket.open(found.key)
        if reader is None:
            raise NotFound(f"there is no file `{found.path}`")
        try:
            upload = self._begin_upload(bucket, found, reader)
        except BaseException:
            reader.close()
            raise
        beginning = Beginning(exists=True)
        if partial_size is not None:
            reason = "an older object is there, and a newer upload of it was cut short"
            beginning = Beginning(True, None, (), reason)
        return _Found(upload, reader.info, beginning)

    async def _resume(self, bucket: GuardedBucket, found: Mapped, how: HowToOpen) -> _Found | None:
        context = self._landings.context
        try:
            upload = await self._in_thread(
                lambda: bucket.resume_upload(found.key, owner=context.session_id, user=self._user)
            )
        except AccessDenied as denied:
            raise _RefusedError(denied) from denied
        if upload is None:
            return None
        upload.metadata.update(self._metadata())
        # a client that appends has asked where the file ends, or leaves it to us
        begins_at = (upload.size,) if how.append else None
        reason = f"what was kept of it ends at {upload.size}"
        return _Found(upload, beginning=Beginning(True, None, begins_at, reason))

    async def partial_size(self, bucket: GuardedBucket, found: Mapped) -> int | None:
        """How much of a file this user may resume from; None where there is nothing."""
        if not self._resumes or not bucket.has_partial(found.key, self._user):
            return None
        try:
            return await self._in_thread(lambda: bucket.partial_size(found.key, self._user))
        except AccessDenied:
            return None  # who may not write there any more has nothing to resume

    async def drop_partial(self, bucket: GuardedBucket, found: Mapped) -> bool:
        """REMOVE of what STAT told of: forget it. False where there is nothing."""
        if not bucket.has_partial(found.key, self._user):
            return False
        return await self._in_thread(lambda: bucket.drop_partials(found.key, self._user)) > 0

    def _begin_upload(
        self, bucket: GuardedBucket, found: Mapped, over: Opened = None
    ) -> StoredUpload:
        try:
            return bucket.begin_upload(
                found.key,
                owner=self._landings.context.session_id,
                metadata=self._metadata(),
                user=self._user if self._resumes else "",
                over=over,
            )
        except AccessDenied as denied:
            raise _RefusedError(denied) from denied

    async def _in_thread(self, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads.executor, work)


class _RefusedError(Exception):
    """The judge refused to write: shown at CLOSE, as on AWS."""

    def __init__(self, denied: AccessDenied) -> None:
        super().__init__(str(denied))
        self.denied = denied
