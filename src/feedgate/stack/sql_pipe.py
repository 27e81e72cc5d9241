"""CREATE PIPE … AS COPY INTO.

Sources: Snowflake's pages create-pipe (which options a pipe forbids, what its SELECT may be) and
copy-into-table. The select expressions stay text; ``pipes.dialect`` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from feedgate.errors import Source
from feedgate.stack.sql_objects import resolve_file_format
from feedgate.stack.sql_options import boolean, text
from feedgate.stack.sql_pattern import PatternError, compile_pattern
from feedgate.stack.sql_reader import Cursor, Option, shown
from feedgate.stack.sql_state import Creation, Declared
from feedgate.stack.sql_text import Token
from feedgate.stack.warehouse import CopyInto, FileFormat, Pipe, Stage, Table

__all__ = ["read_pipe"]

_HEADER_REFUSED = ("ERROR_INTEGRATION", "AWS_SNS_TOPIC", "INTEGRATION")
_FORBIDDEN = ("FILES", "SIZE_LIMIT", "PURGE", "FORCE", "RETURN_FAILED_ONLY", "VALIDATION_MODE")
_NOT_YET = ("INCLUDE_METADATA", "LOAD_MODE", "FILE_PROCESSOR", "CLUSTER_AT_INGEST_TIME")
_SEMI_STRUCTURED = ("VARIANT", "OBJECT", "ARRAY")
_CLAUSES = ("WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "QUALIFY", "JOIN", "UNION", "LATERAL")
_NOW = ("CURRENT_TIMESTAMP", "LOCALTIMESTAMP", "SYSDATE", "GETDATE", "SYSTIMESTAMP")


@dataclass(frozen=True, slots=True)
class _Select:
    expressions: tuple[str, ...]
    sources: tuple[Source, ...]


def read_pipe(cursor: Cursor, declared: Declared, made: Creation) -> None:
    """Read from the pipe's name on, and declare it."""
    made.if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    source = cursor.source
    name = declared.name(cursor, "a pipe")
    auto_ingest, comment = _header(cursor)
    cursor.expect("AS")
    wrapped = cursor.accept("(")
    copy = _copy(cursor, declared, wrapped=wrapped)
    if wrapped:
        cursor.expect(")")
    cursor.end()
    if made.replace:
        cursor.remark(
            "warning",
            f"CREATE OR REPLACE PIPE `{name}` forgets which files were loaded, on Snowflake",
            rule="pipe-replace",
            hint="write CREATE PIPE IF NOT EXISTS",
            offset=made.start,
        )
    if not auto_ingest:
        cursor.remark(
            "warning",
            f"pipe `{name}` has no AUTO_INGEST = TRUE: no file is loaded by itself",
            rule="pipe-auto-ingest",
            offset=made.start,
        )
    declared.require_free(cursor, made, "pipe", declared.pipes, name)
    declared.pipes[name] = Pipe(name, copy, auto_ingest, comment, source)


def _header(cursor: Cursor) -> tuple[bool, str | None]:
    auto_ingest, comment = False, None
    for option in cursor.options(until=("AS",)):
        if option.key == "AUTO_INGEST":
            auto_ingest = boolean(cursor, option)
        elif option.key == "COMMENT":
            comment = text(cursor, option)
        elif option.key in _HEADER_REFUSED:
            cursor.collect(f"{option.key} of a pipe is not done here", offset=option.start)
        else:
            cursor.collect(f"unknown option {option.key} of a pipe", offset=option.start)
    return auto_ingest, comment


def _copy(cursor: Cursor, declared: Declared, *, wrapped: bool) -> CopyInto:
    source = cursor.source
    cursor.expect("COPY", "INTO")
    place = cursor.offset
    table_name = declared.name(cursor, "a table")
    table = declared.tables.get(table_name)
    if table is None:
        raise declared.missing(cursor, "table", table_name, place)
    columns = _column_list(cursor, table)
    cursor.expect("FROM")
    select: _Select | None = None
    alias: str | None = None
    if cursor.accept("("):
        select = _select(cursor)
        stage, path = _stage(cursor, declared)
        alias = _alias(cursor)
        cursor.expect(")")
    else:
        stage, path = _stage(cursor, declared)
    options = cursor.options(until=(")",) if wrapped else ())
    file_format = _file_format(cursor, declared, options, stage)
    copy = CopyInto(
        table=table_name,
        columns=columns,
        stage=stage.name,
        path=path,
        select=select.expressions if select else None,
        pattern=_pattern(cursor, options),
        file_format=file_format,
        on_error=_on_error(cursor, options),
        options=_copy_options(cursor, options),
        source=source,
        stage_alias=alias,
        select_sources=select.sources if select else (),
    )
    _check_shape(cursor, copy, table, place)
    return copy


def _column_list(cursor: Cursor, table: Table) -> tuple[str, ...] | None:
    if not cursor.accept("("):
        return None
    known = {each.name for each in table.columns}
    names: list[str] = []
    while True:
        place = cursor.offset
        name = cursor.identifier("a column")
        if name not in known:
            cursor.collect(f"table `{table.name}` has no column `{name}`", offset=place)
        elif name in names:
            cursor.collect(f"column `{name}` is named twice", offset=place)
        names.append(name)
        if not cursor.accept(","):
            break
    cursor.expect(")")
    return tuple(names)


# -- FROM ---------------------------------------------------------------------------------------


def _select(cursor: Cursor) -> _Select:
    """The expressions between SELECT and FROM, cut at commas outside of parentheses."""
    cursor.expect("SELECT")
    if cursor.at("DISTINCT") or cursor.at("TOP"):
        raise cursor.fault(f"a pipe's SELECT has no {shown(cursor.token)}")
    expressions: list[str] = []
    sources: list[Source] = []
    while True:
        tokens: list[Token] = []
        depth = 0
        while depth or not (cursor.at(",") or cursor.at("FROM")):
            token = cursor.take()
            depth += (token.upper in ("(", "[")) - (token.upper in (")", "]"))
            tokens.append(token)
        if not tokens:
            raise cursor.fault("expected an expression")
        start, end = tokens[0].start, tokens[-1].end
        expressions.append(cursor.script.text[start:end])
        sources.append(cursor.script.source(start))
        _warn_of_now(cursor, tokens)
        if not cursor.accept(","):
            break
    cursor.expect("FROM")
    return _Select(tuple(expressions), tuple(sources))


def _warn_of_now(cursor: Cursor, tokens: list[Token]) -> None:
    for token in tokens:
        if token.kind == "word" and token.upper in _NOW:
            cursor.remark(
                "warning",
                f"{token.upper} in a pipe is the time of compilation, which may be hours off",
                rule="pipe-now",
                hint="use METADATA$START_SCAN_TIME",
                offset=token.start,
            )


def _alias(cursor: Cursor) -> str | None:
    if cursor.at("("):
        raise cursor.fault("options of a stage inside FROM are not done in a pipe")
    for clause in _CLAUSES:
        if cursor.at(clause):
            raise cursor.fault(f"a pipe's SELECT has no {clause}")
    if cursor.at(")"):
        return None
    cursor.accept("AS")
    alias = cursor.identifier("an alias of the stage")
    for clause in _CLAUSES:
        if cursor.at(clause):
            raise cursor.fault(f"a pipe's SELECT has no {clause}")
    return alias


def _stage(cursor: Cursor, declared: Declared) -> tuple[Stage, str]:
    """``@[db.][schema.]stage[/path]``, or the same in single quotes."""
    token = cursor.token
    start = cursor.offset
    if token is not None and token.kind == "string":
        parts, path = _quoted_location(cursor)
    else:
        if not cursor.accept("@"):
            raise cursor.fault(
                f"expected a stage, found {shown(token)}", hint="a pipe reads FROM @stage/path"
            )
        if cursor.at("~") or cursor.at("%"):
            raise cursor.fault("user and table stages are not done here", offset=start)
        parts = cursor.parts("a stage")
        path = _bare_path(cursor)
    name = declared.resolve(cursor, parts, start)
    stage = declared.stages.get(name)
    if stage is None:
        raise declared.missing(cursor, "stage", name, start)
    if path and not path.endswith("/"):
        cursor.remark(
            "warning",
            f"`@{stage.name}/{path}` has no slash at its end: it is a prefix of other names too",
            rule="stage-slash",
            offset=start,
        )
    return stage, path


def _bare_path(cursor: Cursor) -> str:
    """The characters that follow the stage's name without a blank."""
    start = end = cursor.previous_end
    while (token := cursor.token) is not None and token.start == end and token.text not in "();,":
        if token.kind in ("string", "quoted"):
            raise cursor.fault("a quote inside a path", hint="quote the whole: '@stage/a b/'")
        end = cursor.take().end
    if cursor.script.text[end : end + 2] in ("//", "--", "/*"):
        raise cursor.fault(
            "a comment begins inside the path", hint="quote the whole: '@stage/a//b/'", offset=end
        )
    return cursor.script.text[start:end].removeprefix("/")


def _quoted_location(cursor: Cursor) -> tuple[tuple[str, ...], str]:
    start = cursor.offset
    given = cursor.take().text
    if not given.startswith("@"):
        raise cursor.fault(
            f"a pipe reads from a stage, not from `{given}`", hint="CREATE STAGE", offset=start
        )
    name, _, path = given[1:].partition("/")
    parts = tuple(
        each[1:-1] if each.startswith('"') and each.endswith('"') else each.upper()
        for each in name.split(".")
    )
    if not all(parts) or len(parts) > 3:
        raise cursor.fault(f"`{given}` is not `@stage/path`", offset=start)
    return parts, path


# -- options ------------------------------------------------------------------------------------


def _file_format(
    cursor: Cursor, declared: Declared, options: tuple[Option, ...], stage: Stage
) -> FileFormat:
    """COPY's own, else the stage's; Snowflake takes one of them whole."""
    for option in options:
        if option.key == "FILE_FORMAT":
            return resolve_file_format(cursor, declared, option)
    return stage.file_format


def _pattern(cursor: Cursor, options: tuple[Option, ...]) -> str | None:
    for option in options:
        if option.key != "PATTERN":
            continue
        pattern = text(cursor, option)
        try:
            compile_pattern(pattern)
        except PatternError as error:
            cursor.collect(f"PATTERN `{pattern}`: {error}", offset=option.value.start)
        if not pattern.startswith(".*"):
            cursor.remark(
                "warning",
                f"PATTERN `{pattern}` does not begin with `.*`: Snowflake's pages differ on where"
                " it starts",
                rule="pipe-pattern",
                offset=option.value.start,
            )
        return pattern
    return None


def _on_error(cursor: Cursor, options: tuple[Option, ...]) -> str:
    for option in options:
        if option.key != "ON_ERROR":
            continue
        word = option.value.text.upper()
        if word in ("SKIP_FILE", "CONTINUE"):
            return word
        if word == "ABORT_STATEMENT":
            cursor.collect("a pipe may not say ON_ERROR = ABORT_STATEMENT", offset=option.start)
        elif word.startswith("SKIP_FILE_"):
            cursor.collect(f"ON_ERROR = {word} is not done yet", offset=option.start)
        else:
            cursor.collect(
                "ON_ERROR takes SKIP_FILE or CONTINUE",
                offset=option.value.start,
            )
    return "SKIP_FILE"  # a pipe's default, unlike COPY's


def _copy_options(cursor: Cursor, options: tuple[Option, ...]) -> Mapping[str, Any]:
    kept: dict[str, Any] = {}
    for option in options:
        key = option.key
        if key in ("FILE_FORMAT", "PATTERN", "ON_ERROR"):
            continue
        if key in ("TRUNCATECOLUMNS", "ENFORCE_LENGTH"):
            kept[key] = boolean(cursor, option)
        elif key in _FORBIDDEN:
            cursor.collect(f"a pipe may not say {key}", offset=option.start)
        elif key in _NOT_YET:
            cursor.collect(f"{key} is not done yet", offset=option.start)
        elif key == "MATCH_BY_COLUMN_NAME" and option.value.text.upper() == "NONE":
            continue
        elif key == "MATCH_BY_COLUMN_NAME":
            cursor.collect("MATCH_BY_COLUMN_NAME is not done yet", offset=option.start)
        elif key == "LOAD_UNCERTAIN_FILES":
            if boolean(cursor, option):
                cursor.collect("LOAD_UNCERTAIN_FILES is not done yet", offset=option.start)
        else:
            cursor.collect(f"unknown option {key} of COPY INTO", offset=option.start)
    if "TRUNCATECOLUMNS" in kept and kept.get("ENFORCE_LENGTH") == kept["TRUNCATECOLUMNS"]:
        place = next(each.start for each in options if each.key == "TRUNCATECOLUMNS")
        cursor.collect("TRUNCATECOLUMNS and ENFORCE_LENGTH contradict each other", offset=place)
    return kept


def _check_shape(cursor: Cursor, copy: CopyInto, table: Table, place: int) -> None:
    """The number of values and of columns; a plain JSON copy fills one semi-structured column."""
    for column in table.columns:
        left_out = copy.columns is not None and column.name not in copy.columns
        if left_out and not column.nullable and column.default is None:
            cursor.collect(
                f"column `{column.name}` of `{table.name}` is NOT NULL, has no DEFAULT, and the"
                " COPY leaves it out",
                offset=place,
            )
    targets = [each for each in table.columns if copy.columns is None or each.name in copy.columns]
    if copy.select is not None:
        if len(copy.select) != len(targets):
            cursor.collect(
                f"the SELECT gives {len(copy.select)} values for {len(targets)} columns of"
                f" `{table.name}`",
                offset=place,
            )
    elif copy.file_format.type == "JSON" and (
        len(targets) != 1 or targets[0].type not in _SEMI_STRUCTURED
    ):
        cursor.collect(
            "JSON fills exactly one column of type VARIANT, OBJECT or ARRAY",
            hint="write a SELECT: FROM (SELECT $1:a::NUMBER, … FROM @stage)",
            offset=place,
        )
