"""An operator's query in its sandbox: one SELECT, which can change nothing and read no file.

What DuckDB's own lock does (no external access, locked configuration, a read-only transaction) is
not enough: a SELECT may call table functions, and ``enable_logging(storage := 'file')`` inside one
makes the whole instance unusable (tried, 1.5.5). So the statement is parsed by DuckDB itself
(``json_serialize_sql``, which takes SELECTs alone) and its tree is looked through: table functions
are an allow-list, and the schema that holds lineage and history is not named.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

import duckdb

from feedgate.errors import CouldNot, FeedgateError, UsageError
from feedgate.limits import QUERY_ROWS_MAX, QUERY_TIMEOUT_S
from feedgate.pipes.conversion import quoted
from feedgate.pipes.duckdb_faults import kind_of, of_data
from feedgate.pipes.duckdb_schema import HIDDEN
from feedgate.pipes.warehouse import QueryResult

__all__ = ["run_query"]

_TABLE_FUNCTIONS: Final = frozenset(
    {"generate_series", "json_each", "json_tree", "range", "repeat", "unnest"}
)
_REFUSED_FUNCTIONS: Final = frozenset({"currval", "nextval", "setseed", "write_log"})
_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(ANALYZE\s+)?", re.IGNORECASE)
_ALLOWED_HINT: Final = "SELECT, DESCRIBE, SHOW and EXPLAIN of one SELECT are"

# what leaves as it is; every other type becomes text
_PLAIN_TYPES = re.compile(
    r"BOOLEAN|U?(TINY|SMALL|BIG)?INT(EGER)?|UINTEGER|DECIMAL\(\d+,\d+\)|FLOAT|DOUBLE|VARCHAR|JSON"
)
_WHOLE = re.compile(r"DECIMAL\(\d+,0\)")
_NESTED = re.compile(r".*\]|STRUCT\(.*|MAP\(.*|UNION\(.*", re.DOTALL)

_LISTINGS: Final = {
    "databases": (
        "SELECT database_name FROM duckdb_databases()"
        " WHERE NOT internal AND database_name <> 'memory' ORDER BY 1"
    ),
    "__show_tables_expanded": (
        "SELECT database_name AS database, schema_name AS schema, view_name AS name"
        " FROM duckdb_views() WHERE NOT internal ORDER BY ALL"
    ),
}


def run_query(
    cursor: duckdb.DuckDBPyConnection, sql: str, *, timeout_s: float = QUERY_TIMEOUT_S
) -> QueryResult:
    """Run ``sql`` on a cursor of its own.

    Raises:
        UsageError: it is no single SELECT, names what is not there, or fails on a value.
        CouldNot: it took too long, or memory did not suffice.
    """
    try:
        statement = _only_statement(sql)
        explain = _EXPLAIN.match(statement)
        select = statement[explain.end() :] if explain else statement
        shows, listing = _checked(cursor, select)
        with _read_only(cursor, timeout_s):
            if explain or shows:
                return _fetched(cursor, listing or statement, None)
            return _selected(cursor, select)
    except duckdb.InterruptException as error:
        raise CouldNot(f"the query took longer than {timeout_s:g} s") from error
    except duckdb.OutOfMemoryException as error:
        raise CouldNot("the query needs more memory than the warehouse has") from error
    except duckdb.Error as error:
        if kind_of(error) == "refuse":
            raise _refused(error) from error
        raise of_data(error) from error


def _only_statement(sql: str) -> str:
    statements = duckdb.extract_statements(sql)
    if len(statements) != 1:
        raise UsageError(f"{len(statements)} statements given", hint="give one SELECT")
    return str(statements[0].query).strip().rstrip(";").rstrip()


def _checked(cursor: duckdb.DuckDBPyConnection, select: str) -> tuple[bool, str | None]:
    """Refuse what is not allowed.

    Returns whether it is a SHOW or DESCRIBE, and what to run instead of a SHOW of everything.
    """
    rows = cursor.execute("SELECT CAST(json_serialize_sql(?) AS VARCHAR)", [select]).fetchall()
    tree = json.loads(rows[0][0])
    if tree["error"]:
        if tree.get("error_type") == "parser":
            raise UsageError(tree["error_message"])
        raise UsageError("this statement is not allowed here", hint=_ALLOWED_HINT + " allowed")
    source = tree["statements"][0]["node"].get("from_table") or {}
    shows = source.get("type") == "SHOW_REF"
    listing = None
    if shows and source.get("query") is None:
        listing = _LISTINGS.get(str(source.get("table_name")).strip('"').lower())
    for node in _nodes(tree["statements"]):
        _check_node(node)
    return shows, listing


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of the tree. Not recursive: a deep query must not end the process."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)


def _check_node(node: dict[str, Any]) -> None:
    kind = node.get("type")
    if kind == "TABLE_FUNCTION":
        name = str(node.get("function", {}).get("function_name", "?")).lower()
        if name not in _TABLE_FUNCTIONS:
            raise UsageError(f"table function `{name}` is not allowed here")
    elif node.get("class") == "FUNCTION":
        name = str(node.get("function_name", "?")).lower()
        if name in _REFUSED_FUNCTIONS:
            raise UsageError(f"function `{name}` is not allowed here")
    elif kind in ("BASE_TABLE", "SHOW_REF"):
        names = (node.get(part) for part in ("catalog_name", "schema_name", "table_name"))
        if any(str(name).strip('"').upper() == HIDDEN for name in names):
            raise UsageError(f"schema `{HIDDEN}` is not readable here")


@contextlib.contextmanager
def _read_only(cursor: duckdb.DuckDBPyConnection, timeout_s: float) -> Iterator[None]:
    cursor.execute("BEGIN TRANSACTION READ ONLY")
    timer = threading.Timer(timeout_s, cursor.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with contextlib.suppress(duckdb.Error):
            cursor.execute("ROLLBACK")


def _selected(cursor: duckdb.DuckDBPyConnection, select: str) -> QueryResult:
    """The rows, dates, times, binaries and nested values as text (in UTC, hexadecimal, JSON)."""
    described = cursor.execute(f"DESCRIBE {select}").fetchall()
    names = [str(row[0]) for row in described]
    types = [str(row[1]) for row in described]
    items = ", ".join(
        f"{_shown(f'#{index}', kind)} AS {quoted(name)}"
        for index, (name, kind) in enumerate(zip(names, types, strict=True), 1)
    )
    wrapped = f"SELECT {items} FROM (\n{select}\n) LIMIT {QUERY_ROWS_MAX + 1}"  # noqa: S608
    return _fetched(cursor, wrapped, types)


def _shown(item: str, kind: str) -> str:
    if _PLAIN_TYPES.fullmatch(kind):
        return item
    if kind == "BLOB":
        return f"hex({item})"
    if _NESTED.fullmatch(kind):
        return f"CAST(to_json({item}) AS VARCHAR)"
    return f"CAST({item} AS VARCHAR)"


def _fetched(
    cursor: duckdb.DuckDBPyConnection, statement: str, types: list[str] | None
) -> QueryResult:
    cursor.execute(statement)
    described = cursor.description or []
    rows = cursor.fetchmany(QUERY_ROWS_MAX + 1)
    whole = {index for index, kind in enumerate(types or ()) if _WHOLE.fullmatch(kind)}
    if whole:
        rows = [
            tuple(_whole(cell) if index in whole else cell for index, cell in enumerate(row))
            for row in rows
        ]
    return QueryResult(
        columns=tuple(str(column[0]) for column in described),
        types=tuple(types if types is not None else (str(column[1]) for column in described)),
        rows=tuple(rows[:QUERY_ROWS_MAX]),
        truncated=len(rows) > QUERY_ROWS_MAX,
    )


def _whole(cell: Decimal | None) -> int | str | None:
    """NUMBER(p,0) as an integer where JSON's readers hold it, else as text."""
    if cell is None:
        return None
    number = int(cell)
    return number if -(2**63) <= number < 2**63 else str(number)


def _refused(error: duckdb.Error) -> FeedgateError:
    """DuckDB's words without its prefix and its drawing of the place."""
    text = str(error).split("\n\nLINE", 1)[0].replace("\n", " ").strip()
    head, _, rest = text.partition("Error: ")
    message = rest if rest and head.count(" ") <= 2 else text
    return UsageError(message[:1].lower() + message[1:])
