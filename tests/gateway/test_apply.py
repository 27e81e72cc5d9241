"""Applying definitions: the difference, what waits, what is kept."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from feedgate.cli.author import write_example
from feedgate.database import Database
from feedgate.errors import DefinitionError
from feedgate.gateway.apply import apply_definition
from feedgate.gateway.definition import Definition, DefinitionStore
from feedgate.gateway.folder import DataFolder
from feedgate.gateway.reading import RunValues, read_definition
from feedgate.gateway.services import Services, open_database
from feedgate.gateway.warehouse_key import warehouse_key
from feedgate.identity.store import UserStore
from feedgate.kms.keyring import Keyring
from feedgate.storage.embedded import EmbeddedBucket
from feedgate.telemetry import EventLog

NOW_MS = 1_795_000_000_000


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """An empty data folder."""
    return DataFolder.create(tmp_path / "data")


@pytest.fixture
def database(folder: DataFolder) -> Iterator[Database]:
    """Its database."""
    opened = open_database(folder)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Definition:
    """The example stack, read."""
    stack = tmp_path_factory.mktemp("landing")
    write_example(stack)
    return read_definition(stack, RunValues(), None)


def without(definition: Definition, text: str, instead: str = "") -> Definition:
    """The definition with a part of its warehouse script taken out."""
    [(name, script)] = definition.warehouse_files
    assert text in script
    return replace(definition, warehouse_files=((name, script.replace(text, instead)),))


def test_first_application(folder: DataFolder, database: Database, example: Definition) -> None:
    """The first one applies whole: users, KMS keys, and the texts that a worker rebuilds from."""
    outcome = apply_definition(folder, database, example, yes=False, now_ms=NOW_MS)
    assert outcome.first
    assert outcome.applied
    applied = DefinitionStore(database).applied()
    assert applied is not None
    assert applied.stack.server.server_id == example.stack.server.server_id
    assert [user.user_name for user in UserStore(database).list()] == sorted(example.stack.users)


def test_unchanged_changes_nothing(
    folder: DataFolder, database: Database, example: Definition
) -> None:
    """Applying the same definition again raises no generation."""
    apply_definition(folder, database, example, yes=False, now_ms=NOW_MS)
    before = DefinitionStore(database).generation(), UserStore(database).generation()
    outcome = apply_definition(folder, database, example, yes=False, now_ms=NOW_MS)
    assert outcome.changes == ()
    assert (DefinitionStore(database).generation(), UserStore(database).generation()) == before


def test_moved_lines_are_no_change(
    folder: DataFolder, database: Database, example: Definition
) -> None:
    """A comment that moves every statement down changes no resource."""
    apply_definition(folder, database, example, yes=False, now_ms=NOW_MS)
    [(name, script)] = example.warehouse_files
    moved = replace(example, warehouse_files=((name, "-- a comment\n\n" + script),))
    outcome = apply_definition(folder, database, moved, yes=False, now_ms=NOW_MS)
    assert outcome.changes == ()
    assert outcome.applied


def test_a_removed_table_waits(folder: DataFolder, database: Database, example: Definition) -> None:
    """What would take data with it waits for the operator; the last good one stays served."""
    apply_definition(folder, database, example, yes=False, now_ms=NOW_MS)
    script = example.warehouse_files[0][1]
    table = script[script.index("CREATE TABLE IF NOT EXISTS events") :].split(";", 1)[0] + ";"
    pipe = script[script.index("CREATE PIPE IF NOT EXISTS events_pipe") :].split(";", 1)[0] + ";"
    smaller = without(without(example, table), pipe)
    store = DefinitionStore(database)
    outcome = apply_definition(folder, database, smaller, yes=False, now_ms=NOW_MS)
    [told] = map(str, outcome.waiting)
    assert told == (
        "Remove TABLE `LANDING.RAW.EVENTS`: nothing is dropped: its rows stay, `feedgate query`"
        " reads them, nothing loads into it"
    )
    assert store.pending() == (told,)
    served = store.applied()
    assert served is not None
    assert served.warehouse_files == example.warehouse_files
    assert apply_definition(folder, database, smaller, yes=True, now_ms=NOW_MS).applied
    assert store.pending() == ()
    served = store.applied()
    assert served is not None
    assert served.warehouse_files == smaller.warehouse_files


def test_another_bucket_name_waits(
    folder: DataFolder, database: Database, example: Definition
) -> None:
    """A bucket of another name is another bucket."""
    apply_definition(folder, database, example, yes=False, now_ms=NOW_MS)
    renamed = replace(example, parameters={"BucketNamePrefix": "other"})
    outcome = apply_definition(folder, database, renamed, yes=False, now_ms=NOW_MS)
    assert any(
        change.kind == "AWS::S3::Bucket" and change.action == "Replace"
        for change in outcome.waiting
    )


def test_a_fault_changes_nothing(
    folder: DataFolder, database: Database, example: Definition
) -> None:
    """Every fault is listed at once, and what was served stays."""
    apply_definition(folder, database, example, yes=False, now_ms=NOW_MS)
    before = DefinitionStore(database).generation()
    faulty = without(example, "TYPE = JSON;", "TYPE = JASON;")
    faulty = without(faulty, "STORAGE_PROVIDER = 'S3'", "STORAGE_PROVIDER = 'FTP'")
    with pytest.raises(DefinitionError) as caught:
        apply_definition(folder, database, faulty, yes=True, now_ms=NOW_MS)
    assert len(caught.value.findings) >= 2
    assert all(finding.source and finding.source.line for finding in caught.value.findings)
    assert DefinitionStore(database).generation() == before


def test_values_of_the_run_before_are_kept(tmp_path: Path) -> None:
    """A run that names no parameter keeps the value of the run before, as CloudFormation does."""
    write_example(tmp_path)
    first = read_definition(tmp_path, RunValues(parameters={"HostName": "a.example.com"}), None)
    second = read_definition(tmp_path, RunValues(parameters={"Environment": "prod"}), first)
    assert second.parameters == {"HostName": "a.example.com", "Environment": "prod"}
    assert second.stack.outputs["HostName"] == "a.example.com"


# -- a KMS key that leaves the stack -----------------------------------------------------------


def key_renamed(definition: Definition) -> Definition:
    """The definition with another logical id for its KMS key, and so another KMS key."""
    return replace(
        definition, template_text=definition.template_text.replace("LandingKey", "SecondKey")
    )


def the_key(definition: Definition) -> str:
    """The ARN of its only KMS key."""
    [arn] = definition.stack.kms_keys
    return arn


def put(services: Services, key: str, data: bytes) -> str | None:
    """Land bytes in the landing bucket; the ARN of the KMS key that wraps them."""
    bucket = landing_bucket(services)
    upload = bucket.begin_upload(key, owner="test")
    upload.write(0, [data])
    staged = upload.finish()
    return services.database.write_now(lambda tx: bucket.publish(tx, staged)).kms_key_arn


def landing_bucket(services: Services) -> EmbeddedBucket:
    """The bucket under a KMS key of the stack's own."""
    [name] = [b.name for b in services.stack.buckets.values() if b.kms_key_arn is not None]
    return services.buckets[name]


def state(folder: DataFolder, arn: str) -> str:
    """What the keyring says of a KMS key."""
    return Keyring.open(folder.keyring).kms_keys()[arn].state


def test_an_unused_kms_key_is_scheduled(
    folder: DataFolder, database: Database, example: Definition
) -> None:
    """A KMS key that wraps nothing waits for the operator's word, then for its window."""
    apply_definition(folder, database, example, yes=False, now_ms=NOW_MS)
    renamed = key_renamed(example)
    outcome = apply_definition(folder, database, renamed, yes=False, now_ms=NOW_MS)
    assert "Remove AWS::KMS::Key `LandingKey`: wraps nothing: pending deletion for 30 days" in map(
        str, outcome.waiting
    )
    assert state(folder, the_key(example)) == "Enabled"
    assert apply_definition(folder, database, renamed, yes=True, now_ms=NOW_MS).applied
    assert state(folder, the_key(example)) == "PendingDeletion"
    assert apply_definition(folder, database, example, yes=True, now_ms=NOW_MS).applied
    assert state(folder, the_key(example)) == "Enabled"


def test_a_kms_key_in_use_is_kept(
    folder: DataFolder, database: Database, example: Definition
) -> None:
    """What a former KMS key wraps stays readable, across a restart; new objects have the new one.

    The key goes when an application finds that nothing refers to it any more.
    """
    apply_definition(folder, database, example, yes=False, now_ms=NOW_MS)
    services = Services(folder, EventLog(io.StringIO(), now=time.time), database=database)
    assert put(services, "a/old", b"old") == the_key(example)
    of_warehouse = warehouse_key(services)
    renamed = key_renamed(example)
    outcome = apply_definition(folder, database, renamed, yes=False, now_ms=NOW_MS)
    [told] = [str(change) for change in outcome.waiting if change.kind == "AWS::KMS::Key"]
    assert "wraps 1 object and the warehouse: kept in the keyring" in told
    assert the_key(example) in told
    assert apply_definition(folder, database, renamed, yes=True, now_ms=NOW_MS).applied
    again = Services(folder, EventLog(io.StringIO(), now=time.time), database=database)
    services.refresh()
    for each in (services, again):
        reader = landing_bucket(each).open("a/old")
        assert reader is not None
        assert reader.pread(0, 10) == b"old"
        reader.close()
        assert put(each, "a/new", b"new") == the_key(renamed)
        assert warehouse_key(each) == of_warehouse
    assert state(folder, the_key(example)) == "Enabled"
    # nothing refers to it any more
    database.write_now(lambda tx: tx.execute("DELETE FROM sealed_key"))
    bucket = landing_bucket(again)
    moved = database.write_now(lambda tx: bucket.move(tx, "a/old", "a/moved"))
    assert moved.kms_key_arn == the_key(renamed)
    assert apply_definition(folder, database, renamed, yes=False, now_ms=NOW_MS).changes == ()
    assert state(folder, the_key(example)) == "PendingDeletion"


def test_a_kms_key_of_another_arn_waits(
    folder: DataFolder, database: Database, example: Definition
) -> None:
    """Another account or stack name makes it another KMS key, which is told and waits."""
    apply_definition(folder, database, example, yes=False, now_ms=NOW_MS)
    services = Services(folder, EventLog(io.StringIO(), now=time.time), database=database)
    of_warehouse = warehouse_key(services)
    other = replace(example, name="other")
    assert the_key(other) != the_key(example)
    outcome = apply_definition(folder, database, other, yes=False, now_ms=NOW_MS)
    assert any(
        change.kind == "AWS::KMS::Key" and change.detail.startswith("wraps the warehouse: kept")
        for change in outcome.waiting
    )
    assert apply_definition(folder, database, other, yes=True, now_ms=NOW_MS).applied
    services.refresh()
    assert warehouse_key(services) == of_warehouse


def test_a_wrapped_key_that_was_scheduled_is_taken_back(
    folder: DataFolder, database: Database, example: Definition
) -> None:
    """An object that was published just after its KMS key left is readable after the next apply."""
    apply_definition(folder, database, example, yes=False, now_ms=NOW_MS)
    services = Services(folder, EventLog(io.StringIO(), now=time.time), database=database)
    renamed = key_renamed(example)
    apply_definition(folder, database, renamed, yes=True, now_ms=NOW_MS)
    Keyring.open(folder.keyring).cancel_deletion(the_key(example))
    put(services, "a/late", b"late")  # by a worker that had not taken up the change
    Keyring.open(folder.keyring).schedule_deletion(the_key(example), days=30, now_ms=NOW_MS)
    apply_definition(folder, database, renamed, yes=False, now_ms=NOW_MS)
    assert state(folder, the_key(example)) == "Enabled"
