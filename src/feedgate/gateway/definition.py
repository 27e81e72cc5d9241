"""The definition: what the author's two files say, and the copy that the gateway applied last.

``Definition`` carries texts, never objects of the running gateway, so that a worker rebuilds the
stack from the database without Jsonnet and without the author's folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import msgspec

from feedgate.database import Database, Transaction
from feedgate.database.engine import Migration
from feedgate.errors import DefinitionError, Finding
from feedgate.pipes.dialect import dialect_findings
from feedgate.stack.build import build
from feedgate.stack.limit_tags import temporary_names
from feedgate.stack.resources import Stack
from feedgate.stack.shared_policy import told_once
from feedgate.stack.template import Template, parse_template
from feedgate.stack.warehouse import Warehouse
from feedgate.stack.warehouse_sql import parse_warehouse

__all__ = ["MIGRATIONS", "Definition", "DefinitionStore"]


_REFERENCE = re.compile(r"&\{(\w+)\}")


@dataclass(frozen=True)
class Definition:
    """Rendered template, warehouse scripts, and the values that a run gives them."""

    name: str
    template_file: str
    template_text: str
    warehouse_files: tuple[tuple[str, str], ...] = ()
    account: str = "000000000000"
    region: str = "us-east-1"
    parameters: Mapping[str, str] = field(default_factory=dict)
    physical_ids: Mapping[str, str] = field(default_factory=dict)
    imports: Mapping[str, str] = field(default_factory=dict)
    defines: Mapping[str, str] = field(default_factory=dict)
    authored: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def template(self) -> Template:
        """The template as data, with the places of its nodes. Raises ``DefinitionError``."""
        return parse_template(self.template_text, file=self.template_file, authored=self.authored)

    @cached_property
    def stack(self) -> Stack:
        """The resolved stack. Raises ``DefinitionError`` with every fault."""
        return build(
            self.template,
            name=self.name,
            account=self.account,
            region=self.region,
            parameters=self.parameters,
            physical_ids=self.physical_ids,
            imports=self.imports,
        )

    @cached_property
    def warehouse(self) -> Warehouse | None:
        """What warehouse.sql declares, or None where there is none. Raises ``DefinitionError``."""
        if not self.warehouse_files:
            return None
        values = {**self.stack.parameters, **self.stack.outputs, **self.defines}
        declared = parse_warehouse(self.warehouse_files, values)
        return replace(declared, temporary_names=temporary_names(self.stack.server.tags))

    def faults(self) -> tuple[Finding, ...]:
        """Every fault of both files at once; empty when the definition is good."""
        found: list[Finding] = []
        try:
            _ = self.stack
        except DefinitionError as error:
            return (*self._told_once(error), *self._script_faults())
        try:
            warehouse = self.warehouse
            if warehouse is not None:
                found.extend(dialect_findings(warehouse))
        except DefinitionError as error:
            found.extend(error.findings)
        return tuple(found)

    def _told_once(self, error: DefinitionError) -> list[Finding]:
        """Faults of the stack; those of a policy file that users share are told once."""
        try:
            return told_once(error.findings, self.template)
        except DefinitionError:  # the template itself is at fault
            return list(error.findings)

    def _script_faults(self) -> list[Finding]:
        """Faults of the script where the stack has some: all but those of lines with ``&{…}``."""
        names = {name for _, text in self.warehouse_files for name in _REFERENCE.findall(text)}
        lines = {file: text.splitlines() for file, text in self.warehouse_files}
        try:
            parse_warehouse(self.warehouse_files, dict.fromkeys(names, "unknown"))
        except DefinitionError as error:
            return [
                finding
                for finding in error.findings
                if finding.source is None
                or "&{" not in lines[finding.source.file][finding.source.line - 1]
            ]
        return []

    def require_good(self) -> None:
        """Raises ``DefinitionError`` with every fault, if there is any."""
        if faults := self.faults():
            raise DefinitionError(faults, hint="`feedgate check` lists them with their places")


MIGRATIONS = (
    Migration(
        "definition",
        1,
        """
        CREATE TABLE definition (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            generation INTEGER NOT NULL,
            applied BLOB NOT NULL,
            applied_at_ms INTEGER NOT NULL,
            pending BLOB,
            trouble TEXT
        ) STRICT;
        CREATE TABLE sealed_key (
            name TEXT PRIMARY KEY,
            kms_key_arn TEXT NOT NULL,
            wrapped BLOB NOT NULL
        ) STRICT;
        """,
    ),
)


class DefinitionStore:
    """The definition last applied, and the changes that wait for the operator's word."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def generation(self) -> int:
        """Raised by each application; 0 before the first."""
        rows = self._database.read("SELECT generation FROM definition")
        return int(rows[0][0]) if rows else 0

    def applied(self) -> Definition | None:
        """The definition that the gateway serves."""
        rows = self._database.read("SELECT applied FROM definition")
        return _decode(rows[0][0]) if rows else None

    def pending(self) -> tuple[str, ...]:
        """Changes that were not applied because they delete or replace, as text."""
        rows = self._database.read("SELECT pending FROM definition")
        return tuple(msgspec.json.decode(rows[0][0])) if rows and rows[0][0] else ()

    def trouble(self) -> str | None:
        """Why a process could not take up the applied definition, if one could not."""
        rows = self._database.read("SELECT trouble FROM definition")
        return str(rows[0][0]) if rows and rows[0][0] else None

    def set_trouble(self, text: str | None) -> None:
        """Remember or forget it; written only where it changes."""
        if self.trouble() != text:
            self._database.write_now(
                lambda tx: tx.execute("UPDATE definition SET trouble = ?", (text,))
            )

    def apply(self, tx: Transaction, definition: Definition, now_ms: int) -> None:
        """Make this the served definition, within the caller's transaction."""
        tx.execute(
            "INSERT INTO definition (one, generation, applied, applied_at_ms) VALUES (1, 1, ?, ?)"
            " ON CONFLICT (one) DO UPDATE SET generation = generation + 1,"
            " applied = excluded.applied, applied_at_ms = excluded.applied_at_ms, pending = NULL",
            (_encode(definition), now_ms),
        )

    def set_pending(self, tx: Transaction, changes: tuple[str, ...]) -> None:
        """Remember what waits for the operator's word; an empty tuple forgets it."""
        tx.execute(
            "UPDATE definition SET pending = ?",
            (msgspec.json.encode(changes) if changes else None,),
        )


def _encode(definition: Definition) -> bytes:
    return msgspec.json.encode(
        {item.name: getattr(definition, item.name) for item in fields(definition) if item.compare}
    )


def _decode(data: bytes) -> Definition:
    values = msgspec.json.decode(data)
    values["warehouse_files"] = tuple(tuple(pair) for pair in values["warehouse_files"])
    return Definition(**values)
