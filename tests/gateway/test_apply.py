"""Applying definitions: the difference, what waits, what is kept."""

from __future__ import annotations

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
from feedgate.gateway.services import open_database
from feedgate.identity.store import UserStore

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
    assert [str(change) for change in outcome.waiting] == ["Remove TABLE `LANDING.RAW.EVENTS`"]
    assert store.pending() == ("Remove TABLE `LANDING.RAW.EVENTS`",)
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
