"""The objects that warehouse.sql declares: what ``stack.warehouse_sql`` reads and ``pipes`` runs.

Names are Snowflake's. Identifiers are stored as Snowflake stores them: bare ones in upper case,
quoted ones exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from feedgate.errors import Finding, Source
from feedgate.stack.limit_tags import TEMPORARY_NAMES

__all__ = [
    "Column",
    "CopyInto",
    "FileFormat",
    "Name",
    "Pipe",
    "Stage",
    "Statement",
    "StorageIntegration",
    "Table",
    "Warehouse",
]


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """A fully qualified object name: database, schema, object."""

    database: str
    schema: str
    name: str

    def __str__(self) -> str:
        return ".".join(
            part
            if part.isidentifier() and part.upper() == part
            else '"' + part.replace('"', '""') + '"'
            for part in (self.database, self.schema, self.name)
        )


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``type`` is Snowflake's name without arguments; ``length``/``scale`` theirs.

    ``NUMBER(38,0)`` is type NUMBER, length 38, scale 0. Types are NUMBER, FLOAT, VARCHAR, BOOLEAN,
    DATE, TIME, TIMESTAMP_NTZ, TIMESTAMP_LTZ, TIMESTAMP_TZ, VARIANT, OBJECT, ARRAY, BINARY, whatever
    synonym the author wrote; ``length`` is a time's precision too. ``default`` is a literal in
    standard SQL, ``CURRENT_TIMESTAMP()`` or a kin, or None.
    """

    name: str
    type: str
    length: int | None = None
    scale: int | None = None
    nullable: bool = True
    default: str | None = None
    source: Source | None = field(default=None, compare=False)
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table. As on Snowflake, ``primary_key`` and ``unique`` are recorded and not enforced."""

    name: Name
    columns: tuple[Column, ...]
    source: Source | None = field(default=None, compare=False)
    primary_key: tuple[str, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class FileFormat:
    """``type`` CSV or JSON (so far) and the options as given, decoded: ``{"SKIP_HEADER": 1}``.

    Option names are upper case; values are str, int, bool, None (for NONE) or tuple[str, ...].
    """

    type: str = "CSV"
    options: Mapping[str, Any] = field(default_factory=dict)
    name: Name | None = None
    source: Source | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class StorageIntegration:
    """An account-level object. Locations are ``s3://bucket/prefix`` or ``*``."""

    name: str
    role_arn: str
    enabled: bool
    allowed_locations: tuple[str, ...]
    blocked_locations: tuple[str, ...] = ()
    external_id: str | None = None
    source: Source | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Stage:
    """``url`` is ``s3://bucket/prefix`` exactly as the author wrote it after substitution."""

    name: Name
    url: str
    integration: str
    file_format: FileFormat
    source: Source | None = field(default=None, compare=False)
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class CopyInto:
    """``COPY INTO table [(columns)] FROM @stage/path | (SELECT … FROM @stage/path)``.

    ``path`` is what follows the stage's name, without the first slash. ``select`` holds the SQL
    text of each select expression, None for a plain copy. ``file_format`` is already merged by
    precedence (COPY's, then the stage's). ``on_error`` is ``SKIP_FILE`` or ``CONTINUE`` so far.
    ``options`` are the remaining COPY options, decoded like a file format's. ``stage_alias`` is the
    ``t`` of ``FROM @stage t``; ``select_sources`` are the places of the select expressions.
    """

    table: Name
    columns: tuple[str, ...] | None
    stage: Name
    path: str
    select: tuple[str, ...] | None
    pattern: str | None
    file_format: FileFormat
    on_error: str
    options: Mapping[str, Any] = field(default_factory=dict)
    source: Source | None = field(default=None, compare=False)
    stage_alias: str | None = None
    select_sources: tuple[Source, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Pipe:
    """A pipe. Without ``auto_ingest`` (Snowflake's default) no landing is offered to it."""

    name: Name
    copy: CopyInto
    auto_ingest: bool = True
    comment: str | None = None
    source: Source | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of the script after ``&{…}`` substitution: kind, exact text, its place."""

    kind: str
    text: str
    source: Source


@dataclass(frozen=True, slots=True)
class Warehouse:
    """Everything that a warehouse.sql declares, in order of declaration.

    ``findings`` are warnings and what has no effect here; faults never reach a ``Warehouse``.
    ``temporary_names``: patterns of names that no pipe is offered; the server's tag says them.
    """

    statements: tuple[Statement, ...]
    databases: tuple[str, ...]
    schemas: tuple[tuple[str, str], ...]
    tables: Mapping[Name, Table]
    file_formats: Mapping[Name, FileFormat]
    integrations: Mapping[str, StorageIntegration]
    stages: Mapping[Name, Stage]
    pipes: Mapping[Name, Pipe]
    current_database: str | None = None
    current_schema: str | None = None
    findings: tuple[Finding, ...] = field(default=(), compare=False)
    temporary_names: tuple[str, ...] = TEMPORARY_NAMES
