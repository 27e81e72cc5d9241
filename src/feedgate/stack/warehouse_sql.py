"""warehouse.sql: a Snowflake script in, tables, file formats, integrations, stages and pipes out.

Done are CREATE of DATABASE, SCHEMA, TABLE, FILE FORMAT, STORAGE INTEGRATION, STAGE and PIPE, and
USE. COMMENT ON and GRANT are kept for Snowflake and do nothing here. Everything else is refused by
name. Each fault is collected with its line and column in the author's file; a fault that only
follows from another is not told.

The statements keep their text exactly (after ``&{Name}``), because ``deploy`` sends them as they
are. How they are read: ``sql_text`` (substitution, tokens), ``sql_reader`` (options), then one
module a kind: ``sql_table``, ``sql_objects``, ``sql_pipe``.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from feedgate.errors import DefinitionError, Finding
from feedgate.limits import WAREHOUSE_SQL_CHARS_MAX
from feedgate.stack.sql_objects import read_file_format, read_integration, read_stage
from feedgate.stack.sql_options import CSV_DEFAULTS, JSON_DEFAULTS, effective_options
from feedgate.stack.sql_pipe import read_pipe
from feedgate.stack.sql_reader import Cursor, shown
from feedgate.stack.sql_state import ConsequentFault, Creation, Declared, creation
from feedgate.stack.sql_table import read_table
from feedgate.stack.sql_text import Script, SqlFault, Token, cut, substitute
from feedgate.stack.warehouse import Statement, Warehouse

__all__ = ["CSV_DEFAULTS", "JSON_DEFAULTS", "effective_options", "parse_warehouse"]


def parse_warehouse(files: Sequence[tuple[str, str]], values: Mapping[str, str]) -> Warehouse:
    """Read the scripts in order, as one session of Snowflake's would run them.

    Args:
        files: (name as shown in findings, text) of each script.
        values: what ``&{Name}`` stands for.

    Raises:
        DefinitionError: with every fault of every file.
    """
    declared = Declared()
    findings: list[Finding] = []
    statements: list[Statement] = []
    for file, text in files:
        if len(text) > WAREHOUSE_SQL_CHARS_MAX:
            limit = f"`{file}` has more than {WAREHOUSE_SQL_CHARS_MAX:,} characters"
            findings.append(Finding("error", limit))
            continue
        for script, tokens in _statements(file, text, values, findings):
            statements.append(_read(script, tokens, declared, findings))
    faults = [each for each in findings if each.severity == "error"]
    if faults:
        raise DefinitionError(sorted(faults, key=_order))
    return Warehouse(
        statements=tuple(statements),
        databases=tuple(declared.databases),
        schemas=tuple(declared.schemas),
        tables=declared.tables,
        file_formats=declared.file_formats,
        integrations=declared.integrations,
        stages=declared.stages,
        pipes=declared.pipes,
        current_database=declared.database,
        current_schema=declared.schema,
        findings=tuple(findings),
    )


def _order(finding: Finding) -> tuple[str, int, int]:
    place = finding.source
    return (place.file, place.line, place.column) if place else ("", 0, 0)


def _statements(
    file: str, text: str, values: Mapping[str, str], findings: list[Finding]
) -> list[tuple[Script, list[Token]]]:
    script, unresolved = substitute(file, text, values)
    try:
        found = cut(script)
    except SqlFault as fault:
        findings += [*(finding for _, finding in unresolved), fault.finding]
        return []
    spans = [(token.start, token.end) for tokens in found for token in tokens]
    for offset, finding in unresolved:
        index = bisect.bisect_right(spans, (offset, len(script.text))) - 1
        if index >= 0 and offset < spans[index][1]:  # within a word, so not in a comment
            findings.append(finding)
    return [(script, tokens) for tokens in found]


def _read(
    script: Script, tokens: list[Token], declared: Declared, findings: list[Finding]
) -> Statement:
    cursor = Cursor(script, tokens, findings)
    source = cursor.source
    kind = _kind(cursor)
    try:
        reader = _READERS.get(kind)
        if reader is None:
            raise cursor.fault(
                f"{kind} is not done here",
                hint="a warehouse.sql declares tables, file formats, integrations, stages, pipes",
            )
        reader(cursor, declared)
        cursor.end()
    except ConsequentFault:
        declared.broken.update(_names(tokens))
    except SqlFault as fault:
        findings.append(fault.finding)
        declared.broken.update(_names(tokens))
    return Statement(kind, script.text[tokens[0].start : tokens[-1].end], source)


def _names(tokens: Sequence[Token]) -> set[str]:
    """Every name in the first words of a statement at fault; one of them is what it creates."""
    return {each.text.casefold() for each in tokens[:12] if each.kind in ("word", "quoted")}


# -- kinds of statement -------------------------------------------------------------------------

_MODIFIERS = ("OR", "REPLACE", "ALTER", "TRANSIENT", "TEMP", "TEMPORARY", "LOCAL", "GLOBAL")
_TWO_WORDS = (
    ("FILE", "FORMAT"),
    ("STORAGE", "INTEGRATION"),
    ("NOTIFICATION", "INTEGRATION"),
    ("SECURITY", "INTEGRATION"),
    ("DYNAMIC", "TABLE"),
    ("EXTERNAL", "TABLE"),
    ("MATERIALIZED", "VIEW"),
)


def _kind(cursor: Cursor) -> str:
    """``CREATE TABLE`` and its like: the first word, and for some the object's kind."""
    first = cursor.token
    assert first is not None
    verb = first.upper or first.text
    if verb not in ("CREATE", "ALTER", "DROP", "USE", "COMMENT", "SHOW"):
        return verb
    ahead = 1
    while (token := cursor.peek(ahead)) is not None and token.upper in _MODIFIERS:
        ahead += 1
    if verb in ("USE", "COMMENT"):
        return verb
    words = tuple(each.upper for each in (cursor.peek(ahead), cursor.peek(ahead + 1)) if each)
    return f"{verb} {' '.join(words if words in _TWO_WORDS else words[:1])}"


def _created(
    *words: str, transient: bool = False
) -> Callable[[Callable[[Cursor, Declared, Creation], None]], Callable[[Cursor, Declared], None]]:
    """Wrap a reader that begins at the object's name: CREATE and its modifiers are taken here."""

    def wrap(
        read: Callable[[Cursor, Declared, Creation], None],
    ) -> Callable[[Cursor, Declared], None]:
        def whole(cursor: Cursor, declared: Declared) -> None:
            made = creation(cursor)
            if transient:
                cursor.accept("TRANSIENT")
            if not cursor.at(*words):
                raise cursor.fault(f"CREATE {shown(cursor.token)} {words[0]} is not done here")
            cursor.expect(*words)
            read(cursor, declared, made)

        return whole

    return wrap


@_created("DATABASE", transient=True)
def _database(cursor: Cursor, declared: Declared, made: Creation) -> None:
    made.if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    source = cursor.source
    declared.add_database(cursor, made, cursor.identifier("a database"), source)
    _container_options(cursor)


@_created("SCHEMA", transient=True)
def _schema(cursor: Cursor, declared: Declared, made: Creation) -> None:
    made.if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    source = cursor.source
    parts = cursor.parts("a schema")
    if len(parts) > 2:
        raise cursor.fault("a schema's name has at most two parts", offset=made.start)
    declared.add_schema(cursor, made, parts, source)
    if cursor.accept("WITH", "MANAGED", "ACCESS"):
        cursor.remark("ignored", "WITH MANAGED ACCESS has no effect here", rule="schema-option")
    _container_options(cursor)


def _container_options(cursor: Cursor) -> None:
    for option in cursor.options():
        if option.key != "COMMENT":
            cursor.remark(
                "ignored",
                f"{option.key} has no effect here",
                rule="container-option",
                offset=option.start,
            )


def _use(cursor: Cursor, declared: Declared) -> None:
    cursor.expect("USE")
    start = cursor.offset
    for kind in ("ROLE", "WAREHOUSE", "SECONDARY"):
        if cursor.accept(kind):
            cursor.remark("ignored", f"USE {kind} has no effect here", rule="use", offset=start)
            cursor.skip_to()
            return
    if cursor.accept("SCHEMA"):
        parts = cursor.parts("a schema")
    else:
        explicit = cursor.accept("DATABASE")
        parts = cursor.parts("a database")
        if len(parts) == 1 or explicit:
            parts = (parts[0], "PUBLIC")
    if len(parts) == 1 and declared.database is None:
        raise cursor.fault("there is no current database", offset=start)
    database = parts[0] if len(parts) > 1 else str(declared.database)
    declared.use_schema(cursor, database, parts[-1], start)


def _comment(cursor: Cursor, declared: Declared) -> None:
    """A pipe's comment may carry feedgate's own settings, so it is taken over."""
    cursor.expect("COMMENT")
    cursor.accept("IF", "EXISTS")
    cursor.expect("ON")
    if cursor.accept("PIPE"):
        place = cursor.offset
        name = declared.name(cursor, "a pipe")
        if name not in declared.pipes:
            raise declared.missing(cursor, "pipe", name, place)
        cursor.expect("IS")
        comment = cursor.string("a comment")
        declared.pipes[name] = replace(declared.pipes[name], comment=comment)
        return
    while not cursor.at("IS"):
        cursor.take()
    cursor.expect("IS")
    cursor.string("a comment")


def _grant(cursor: Cursor, _declared: Declared) -> None:
    cursor.remark(
        "ignored",
        "GRANT has no effect here",
        rule="grant",
        hint="who may read the warehouse locally is who may read the data folder",
    )
    cursor.skip_to()


_READERS: Final[Mapping[str, Callable[[Cursor, Declared], None]]] = {
    "CREATE DATABASE": _database,
    "CREATE SCHEMA": _schema,
    "CREATE TABLE": _created("TABLE", transient=True)(read_table),
    "CREATE FILE FORMAT": _created("FILE", "FORMAT")(read_file_format),
    "CREATE STORAGE INTEGRATION": _created("STORAGE", "INTEGRATION")(read_integration),
    "CREATE STAGE": _created("STAGE")(read_stage),
    "CREATE PIPE": _created("PIPE")(read_pipe),
    "USE": _use,
    "COMMENT": _comment,
    "GRANT": _grant,
}
