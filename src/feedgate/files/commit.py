"""Object and landing in one commit: the moment at which a file exists.

One transaction makes a sealed object its key's current version and writes the landing, so that
nothing is visible that is not recorded, and nothing recorded that is not visible. The embedded form
only; a cloud bucket will need intents (design §3.5).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from feedgate.access.guarded import GuardedBucket
from feedgate.database import Database, Transaction
from feedgate.errors import Conflict
from feedgate.files.lookup import exists_in
from feedgate.files.objects import Staged, StoredObject
from feedgate.files.quota import Allowance
from feedgate.identity.users import GatewayUser
from feedgate.ledger.receipts import Landing, LandingKind
from feedgate.ledger.store import new_ulid, record_landing

__all__ = ["Landings", "SessionContext", "land_operator_copy"]


@dataclass(frozen=True, slots=True)
class SessionContext:
    """Who is connected and how: what every landing of a session says about its sender."""

    user: GatewayUser
    session_id: str
    ssh_key_fingerprint: str
    client_version: str
    source_ip: str
    server_id: str


@dataclass(frozen=True, slots=True)
class Landings:
    """Lands the objects of one session. ``now`` gives Unix seconds, ``randomness`` n bytes."""

    context: SessionContext
    database: Database
    crash_at: Callable[[str], None] = lambda _point: None
    now: Callable[[], float] = time.time
    randomness: Callable[[int], bytes] = os.urandom

    async def publish(
        self,
        bucket: GuardedBucket,
        staged: Staged,
        *,
        path: str,
        kind: LandingKind = "put",
        exclusive: bool = False,
        over: StoredObject | None = None,
        at_once: bool = False,
        is_partial: bool = False,
        allowance: Allowance | None = None,
    ) -> str:
        """Make a sealed object visible and record its landing; its id, once both are durable.

        ``exclusive`` refuses to replace an object that appeared since the file was opened, and
        ``over`` to replace another version than the one whose bytes were changed.
        ``at_once`` says that no other upload of this process is about to commit.

        Raises:
            AccessDenied: the judge refuses now.
            CouldNot: the user's quota does not allow it.
            Conflict: exclusive, and the key is taken; or a directory has the name, or (of a
                directory) anything has.
        """
        self.crash_at("upload-before-publish")
        landing_id = self.new_id()

        def land(tx: Transaction) -> None:
            if exclusive and exists_in(tx, bucket, staged.key):
                raise Conflict(f"`{path}` exists already")
            if kind == "mkdir":
                if bucket.is_taken_in(tx, staged.key):
                    raise Conflict(f"`{path}` exists already")
            elif bucket.would_hide_in(tx, staged.key):
                raise Conflict(f"`{path}` is a directory")
            check = allowance.before(tx, bucket) if allowance is not None else None
            if over is not None and _is_other(bucket.head_in(tx, staged.key), over):
                raise Conflict(f"`{path}` was changed by somebody else meanwhile")
            info = bucket.publish(tx, staged)
            if check is not None:
                check()
            landing = self.landing(landing_id, info, path, kind, is_partial=is_partial)
            record_landing(tx, landing)
            self.crash_at("landing-before-commit")

        await self.database.write(land, at_once=at_once)
        self.crash_at("landing-committed")
        return landing_id

    def new_id(self) -> str:
        """A landing's id, made at the moment of the act."""
        return new_ulid(int(self.now() * 1000), self.randomness(10))

    def landing(
        self,
        landing_id: str,
        info: StoredObject,
        path: str,
        kind: LandingKind,
        origin_landing_id: str | None = None,
        *,
        is_partial: bool = False,
    ) -> Landing:
        """What is recorded of an act of this session by which an object became visible."""
        context = self.context
        return Landing(
            landing_id=landing_id,
            bucket=info.bucket,
            key=info.key,
            version_id=info.version_id,
            object_id=info.object_id,
            size=info.size,
            sha256=info.sha256,
            etag=info.etag,
            kms_key_arn=info.kms_key_arn,
            user_name=context.user.user_name,
            session_id=context.session_id,
            ssh_key_fingerprint=context.ssh_key_fingerprint,
            client_version=context.client_version,
            source_ip=context.source_ip,
            path=path,
            landed_at_ms=int(self.now() * 1000),
            kind=kind,
            origin_landing_id=origin_landing_id,
            is_partial=is_partial,
        )


def _is_other(current: StoredObject | None, expected: StoredObject) -> bool:
    return current is None or current.version_id != expected.version_id


def land_operator_copy(
    database: Database,
    bucket: GuardedBucket,
    staged: Staged,
    *,
    operator: str,
    now: Callable[[], float] = time.time,
) -> Landing:
    """Make an object that the operator copied in visible; it lands as an upload does. Blocks.

    Raises:
        AccessDenied: the KMS key's policy or an explicit Deny refuses.
    """
    now_ms = int(now() * 1000)
    landing_id = new_ulid(now_ms, os.urandom(10))

    def land(tx: Transaction) -> Landing:
        info = bucket.publish(tx, staged)
        landing = Landing(
            landing_id=landing_id,
            bucket=info.bucket,
            key=info.key,
            version_id=info.version_id,
            object_id=info.object_id,
            size=info.size,
            sha256=info.sha256,
            etag=info.etag,
            kms_key_arn=info.kms_key_arn,
            user_name=operator,
            session_id="",
            ssh_key_fingerprint="",
            client_version="feedgate cp",
            source_ip="",
            path=f"/{info.bucket}/{info.key}",
            landed_at_ms=now_ms,
            kind="copy",
        )
        record_landing(tx, landing)
        return landing

    return database.write_now(land)
