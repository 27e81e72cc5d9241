"""A stack like the reference one, and its buckets with real storage behind the judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from feedgate.access.authorize import AuditEvent, Judge
from feedgate.access.guarded import GuardedBucket
from feedgate.access.principals import (
    Operator,
    Principal,
    RoleSession,
    role_session_for_integration,
    role_session_for_user,
)
from feedgate.database import Database
from feedgate.iam.policy import parse_policy
from feedgate.kms.keyring import Keyring
from feedgate.stack.resources import Bucket, KmsKey, Role, Server, Stack, User
from feedgate.storage import embedded
from feedgate.storage.embedded import EmbeddedBucket

A, REGION = "000000000000", "us-east-1"
SERVER = "s-01234567890abcdef"
TRANSFER_ROLE = f"arn:aws:iam::{A}:role/transfer"
SNOWFLAKE_ROLE = f"arn:aws:iam::{A}:role/snowflake"
KEY = f"arn:aws:kms:{REGION}:{A}:key/11111111-2222-3333-4444-555555555555"
SPARE_KEY = f"arn:aws:kms:{REGION}:{A}:key/66666666-2222-3333-4444-555555555555"
ROOT = f"arn:aws:iam::{A}:root"

Statements = tuple[dict[str, Any], ...]

S3_ROLE: Statements = (
    {"Sid": "List", "Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::land"},
    {
        "Sid": "Objects",
        "Effect": "Allow",
        "Action": ["s3:PutObject", "s3:GetObject", "s3:DeleteObject"],
        "Resource": "arn:aws:s3:::land/*",
    },
)
S3_SESSION: Statements = (
    {
        "Sid": "ListOwn",
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": "arn:aws:s3:::land",
        "Condition": {
            "StringLike": {"s3:prefix": ["${transfer:UserName}", "${transfer:UserName}/*"]}
        },
    },
    {
        "Sid": "OwnObjects",
        "Effect": "Allow",
        "Action": ["s3:PutObject", "s3:GetObject", "s3:DeleteObject"],
        "Resource": "arn:aws:s3:::land/${transfer:UserName}/*",
    },
)
USE_KEY: Statements = (
    {
        "Sid": "UseKey",
        "Effect": "Allow",
        "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
        "Resource": KEY,
    },
)
DELEGATE: Statements = (
    {
        "Sid": "Delegate",
        "Effect": "Allow",
        "Principal": {"AWS": ROOT},
        "Action": "kms:*",
        "Resource": "*",
    },
)
TRUST_TRANSFER: Statements = (
    {
        "Effect": "Allow",
        "Principal": {"Service": "transfer.amazonaws.com"},
        "Action": "sts:AssumeRole",
        "Condition": {
            "StringEquals": {"aws:SourceAccount": A},
            "ArnLike": {"aws:SourceArn": f"arn:aws:transfer:{REGION}:{A}:user/{SERVER}/*"},
        },
    },
)
TRUST_ROOT: Statements = (
    {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "sts:AssumeRole"},
)
SNOWFLAKE_POLICY: Statements = (
    {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::land/*"},
    {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::land"},
    {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": KEY},
)


def document(statements: Statements) -> dict[str, Any]:
    """A policy document."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def make_user(name: str = "bob", **changes: Any) -> User:
    """A LOGICAL user with the reference session policy."""
    import json

    user = User(
        logical_id=f"User{name.title()}",
        user_name=name,
        arn=f"arn:aws:transfer:{REGION}:{A}:user/{SERVER}/{name}",
        role_arn=TRANSFER_ROLE,
        home_directory_type="LOGICAL",
        policy=json.dumps(document((*S3_SESSION, *USE_KEY))),
    )
    return replace(user, **changes)


@dataclass
class Site:
    """A stack whose policies a test chooses, and one principal's bucket in it."""

    folder: Path
    role: Statements = (*S3_ROLE, *USE_KEY)
    session: Statements | None = (*S3_SESSION, *USE_KEY)
    key_policy: Statements = DELEGATE
    spare_key_policy: Statements = DELEGATE
    bucket_policy: Statements = ()
    transfer_trust: Statements = TRUST_TRANSFER
    snowflake_trust: Statements = TRUST_ROOT
    snowflake: Statements = SNOWFLAKE_POLICY
    bucket_key: bool = False
    kms_key_arn: str | None = KEY
    now_s: float = 1_790_000_000.0
    events: list[AuditEvent] = field(default_factory=list)
    _database: Database | None = None

    def user(self, name: str = "bob", **changes: Any) -> User:
        """A user whose session policy is the site's."""
        import json

        policy = None if self.session is None else json.dumps(document(self.session))
        return make_user(name, policy=policy, **changes)

    def stack(self) -> Stack:
        """The stack as the fields say it."""
        roles = {
            arn: Role(
                logical_id=logical_id,
                role_name=arn.rpartition("/")[2],
                arn=arn,
                unique_id="AROA1234",
                trust=parse_policy(document(trust), kind="trust", name=f"{logical_id}/trust"),
                policies=(parse_policy(document(own), kind="identity", name=f"{logical_id}/own"),),
                tags={"team": "red"},
            )
            for arn, logical_id, trust, own in (
                (TRANSFER_ROLE, "TransferRole", self.transfer_trust, self.role),
                (SNOWFLAKE_ROLE, "SnowflakeRole", self.snowflake_trust, self.snowflake),
            )
        }
        keys = {
            arn: KmsKey(
                logical_id=logical_id,
                key_id=arn.rpartition("/")[2],
                arn=arn,
                policy=parse_policy(document(own), kind="kms", name=logical_id),
                aliases=("alias/landing",),
            )
            for arn, logical_id, own in (
                (KEY, "LandingKey", self.key_policy),
                (SPARE_KEY, "SpareKey", self.spare_key_policy),
            )
        }
        bucket = Bucket(
            logical_id="LandingBucket",
            name="land",
            arn="arn:aws:s3:::land",
            kms_key_arn=self.kms_key_arn,
            bucket_key_enabled=self.bucket_key,
            policy=parse_policy(document(self.bucket_policy), kind="bucket", name="LandingBucket"),
        )
        return Stack(
            name="landing",
            account=A,
            region=REGION,
            partition="aws",
            server=Server("Server", SERVER, f"arn:aws:transfer:{REGION}:{A}:server/{SERVER}"),
            users={},
            roles=roles,
            buckets={"land": bucket},
            kms_keys=keys,
            parameters={},
            outputs={},
        )

    def judge(self) -> Judge:
        """A judge whose audit events land in ``events``."""
        return Judge(self.stack(), self.events.append, lambda: self.now_s)

    def supplier(self, judge: Judge, name: str = "bob") -> RoleSession:
        """The role session of a login."""
        return role_session_for_user(
            judge.stack, self.user(name), session_id="9ca9a0e1cec6ad9d", judge=judge
        )

    def loader(self, judge: Judge, external_id: str | None = None) -> RoleSession:
        """The storage integration's role session."""
        return role_session_for_integration(
            judge.stack, SNOWFLAKE_ROLE, judge=judge, external_id=external_id
        )

    def database(self) -> Database:
        """The data folder's database."""
        if self._database is None:
            self._database = Database(self.folder)
            self._database.migrate(embedded.MIGRATIONS)
            keyring = Keyring.create(self.folder / "keyring.json")
            for arn in (KEY, SPARE_KEY):
                keyring.ensure(arn, enable_rotation=False, now_ms=0)
        return self._database

    def storage(self, kms_key_arn: str = KEY) -> EmbeddedBucket:
        """The real bucket, encrypting under one of the keys."""
        database = self.database()
        keyring = Keyring.open(self.folder / "keyring.json")
        return EmbeddedBucket(
            name="land",
            arn="arn:aws:s3:::land",
            database=database,
            folder=self.folder,
            kms=keyring.key(kms_key_arn),
            kms_key=keyring.key,
            bucket_key_enabled=self.bucket_key,
            space_floor_bytes=0,
        )

    def bucket(self, principal: Principal, judge: Judge) -> GuardedBucket:
        """The bucket as a principal may use it."""
        return GuardedBucket(principal, judge, self.storage())

    def put(self, key: str, data: bytes = b"x", kms_key_arn: str = KEY) -> None:
        """Put an object behind the judge's back."""
        bucket = self.storage(kms_key_arn)
        upload = bucket.begin_upload(key, owner="test")
        upload.write(0, [data])
        staged = upload.finish()
        self.database().write_now(lambda tx: bucket.publish(tx, staged))

    def close(self) -> None:
        """Close the database."""
        if self._database is not None:
            self._database.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site with the reference policies; set its fields before asking for a judge."""
    made = Site(tmp_path)
    yield made
    made.close()


@pytest.fixture
def operator() -> Operator:
    """Whoever runs commands on this machine."""
    return Operator(A, "root")


@pytest.fixture
def names() -> Mapping[str, Any]:
    """ARNs and statements that tests build on."""
    return {
        "account": A,
        "key": KEY,
        "spare_key": SPARE_KEY,
        "root": ROOT,
        "server": SERVER,
        "transfer_role": TRANSFER_ROLE,
        "snowflake_role": SNOWFLAKE_ROLE,
        "s3_role": S3_ROLE,
        "s3_session": S3_SESSION,
        "use_key": USE_KEY,
        "delegate": DELEGATE,
        "trust_transfer": TRUST_TRANSFER,
    }
