"""A home directory over the real thing: database, keyring, embedded bucket, judge."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from feedgate.access.authorize import Judge
from feedgate.access.guarded import GuardedBucket, guarded_buckets
from feedgate.access.principals import role_session_for_user
from feedgate.database import Database
from feedgate.files.home import HomeDirectory, SessionContext
from feedgate.files.upload import UploadThreads
from feedgate.iam.policy import parse_policy
from feedgate.identity.users import GatewayUser
from feedgate.kms.keyring import Keyring
from feedgate.ledger import store as ledger_store
from feedgate.ledger.store import Ledger
from feedgate.stack.resources import Bucket, HomeDirectoryMapping, KmsKey, Role, Server, Stack, User
from feedgate.storage import embedded
from feedgate.storage.embedded import EmbeddedBucket

ACCOUNT, REGION = "000000000000", "us-east-1"
SERVER_ID = "s-01234567890abcdef"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/transfer"
KEY_ARN = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"

KMS_STATEMENT = {
    "Sid": "Kms",
    "Effect": "Allow",
    "Action": ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"],
    "Resource": KEY_ARN,
}
S3_STATEMENTS: tuple[dict[str, Any], ...] = (
    {"Sid": "List", "Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::*"},
    {
        "Sid": "Objects",
        "Effect": "Allow",
        "Action": ["s3:PutObject", "s3:GetObject", "s3:GetObjectTagging", "s3:DeleteObject"],
        "Resource": "arn:aws:s3:::*/*",
    },
)
EVERYTHING = (*S3_STATEMENTS, KMS_STATEMENT)


def document(statements: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A policy document."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def supplier(name: str, *mappings: tuple[str, ...], **changes: Any) -> User:
    """A LOGICAL user, rooted in ``/landing/NAME`` unless told otherwise."""
    return User(
        logical_id=name.title(),
        user_name=name,
        arn=f"arn:aws:transfer:{REGION}:{ACCOUNT}:user/{SERVER_ID}/{name}",
        role_arn=ROLE_ARN,
        home_directory_type="LOGICAL",
        home_directory_mappings=tuple(
            HomeDirectoryMapping(*mapping) for mapping in mappings or (("/", f"/landing/{name}"),)
        ),
        **changes,
    )


class WatchedBucket:
    """A bucket that notes every key and prefix it is asked for."""

    def __init__(self, bucket: EmbeddedBucket, asked: list[tuple[str, str]]) -> None:
        self.name = bucket.name
        self._bucket = bucket
        self._asked = asked

    def __getattr__(self, method: str) -> Any:
        real = getattr(self._bucket, method)

        def call(*args: Any, **named: Any) -> Any:
            keys = [getattr(arg, "key", arg) for arg in args]
            self._asked += [(self.name, key) for key in keys if isinstance(key, str)]
            return real(*args, **named)

        return call


@dataclass
class Site:
    """A data folder with two buckets, and homes of its users."""

    folder: Path
    database: Database
    keyring: Keyring
    crossed: list[str] = field(default_factory=list)
    landed: list[str] = field(default_factory=list)
    homes: list[HomeDirectory] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)

    kms_statement = KMS_STATEMENT
    s3_statements = S3_STATEMENTS
    everything = EVERYTHING

    @staticmethod
    def supplier(name: str, *mappings: tuple[str, ...], **changes: Any) -> User:
        """A LOGICAL user, rooted in ``/landing/NAME`` unless told otherwise."""
        return supplier(name, *mappings, **changes)

    @property
    def ledger(self) -> Ledger:
        """The ledger of this folder."""
        return Ledger(self.database)

    def stack(self, user: User, role: Sequence[dict[str, Any]]) -> Stack:
        """A stack with this user and this role policy."""
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "transfer.amazonaws.com"},
                    "Action": "sts:AssumeRole",
                }
            ],
        }
        key_policy = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
                    "Action": "kms:*",
                    "Resource": "*",
                }
            ],
        }
        return Stack(
            name="site",
            account=ACCOUNT,
            region=REGION,
            partition="aws",
            server=Server(
                logical_id="Server",
                server_id=SERVER_ID,
                arn=f"arn:aws:transfer:{REGION}:{ACCOUNT}:server/{SERVER_ID}",
            ),
            users={user.user_name: user},
            roles={
                ROLE_ARN: Role(
                    logical_id="Role",
                    role_name="transfer",
                    arn=ROLE_ARN,
                    unique_id="AROAEXAMPLEEXAMPLE000",
                    trust=parse_policy(trust, kind="trust", name="trust"),
                    policies=(parse_policy(document(role), kind="identity", name="inline"),),
                )
            },
            buckets={
                name: Bucket(
                    logical_id=name.title(),
                    name=name,
                    arn=f"arn:aws:s3:::{name}",
                    kms_key_arn=KEY_ARN,
                    bucket_key_enabled=True,
                )
                for name in ("landing", "shared")
            },
            kms_keys={
                KEY_ARN: KmsKey(
                    logical_id="Key",
                    key_id=KEY_ARN.rpartition("/")[2],
                    arn=KEY_ARN,
                    policy=parse_policy(key_policy, kind="kms", name="key"),
                )
            },
            parameters={},
            outputs={},
        )

    def buckets(self) -> dict[str, EmbeddedBucket]:
        """The buckets, unjudged."""
        return {
            name: EmbeddedBucket(
                name=name,
                arn=f"arn:aws:s3:::{name}",
                database=self.database,
                folder=self.folder,
                kms=self.keyring.key(KEY_ARN),
                bucket_key_enabled=True,
            )
            for name in ("landing", "shared")
        }

    def guarded(
        self, user: User, role: Sequence[dict[str, Any]] = EVERYTHING
    ) -> dict[str, GuardedBucket]:
        """The buckets as this user's session may use them."""
        stack = self.stack(user, role)
        judge = Judge(stack, lambda _event: None, time.time)
        session = role_session_for_user(stack, user, session_id="9ca9a0e1cec6ad9d", judge=judge)
        watched = {name: WatchedBucket(each, self.asked) for name, each in self.buckets().items()}
        return dict(guarded_buckets(session, judge, watched))

    def home(
        self, user: User | None = None, role: Sequence[dict[str, Any]] = EVERYTHING
    ) -> HomeDirectory:
        """A session of this user; `acme` with every right unless told otherwise."""
        user = user or supplier("acme")
        made = HomeDirectory(
            context=SessionContext(
                user=GatewayUser(user, enabled=True, origin="template", ssh_public_keys=()),
                session_id="9ca9a0e1cec6ad9d",
                ssh_key_fingerprint="SHA256:abc",
                client_version="SSH-2.0-OpenSSH_9.6",
                source_ip="192.0.2.7",
                server_id=SERVER_ID,
            ),
            buckets=self.guarded(user, role),
            database=self.database,
            on_landed=self.landed.append,
            crash_at=self.crossed.append,
            threads=UploadThreads(2),
        )
        self.homes.append(made)
        return made


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A fresh data folder."""
    database = Database(tmp_path)
    database.migrate((*embedded.MIGRATIONS, *ledger_store.MIGRATIONS))
    keyring = Keyring.create(tmp_path / "keyring.json")
    keyring.ensure(KEY_ARN, enable_rotation=False, now_ms=0)
    yield Site(tmp_path, database, keyring)
    database.close()
