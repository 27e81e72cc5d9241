"""An operator's query in its sandbox: one SELECT, which can change nothing and read no file.

What DuckDB's own lock does (no external access, locked configuration, a read-only transaction) is
not enough: a SELECT may call table functions, and ``enable_logging(storage := 'file')`` inside one
makes the whole instance unusable (tried, 1.5.5). So the statement is parsed by DuckDB itself
(``json_serialize_sql``, which takes SELECTs alone) and its tree is looked through: table functions
are an allow-list, and so are tables: the declared ones and the query's own. DuckDB's system views
show paths of files and the schema that holds lineage and history.
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
_REFUSED_FUNCTIONS: Final = frozenset(
    {
        "current_query",
        "current_setting",
        "currval",
        "getenv",
        "nextval",
        "setseed",
        "sleep_ms",
        "stats",
        "write_log",
    }
)
_POSTGRES_FUNCTIONS: Final = frozenset({"pg_size_pretty", "pg_typeof"})  # the rest show the catalog
_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(ANALYZE\s+)?", re.IGNORECASE)
_ALLOWED_HINT: Final = "SELECT, DESCRIBE, SHOW and EXPLAIN of one SELECT are allowed"
_DIALECT_HINT: Final = "a query is written in DuckDB's SQL"
_TABLES_HINT: Final = "`SHOW ALL TABLES` lists the tables"
_TOO_DEEP: Final = "the query is nested too deeply"

# what leaves as it is; every other type becomes text
_PLAIN_TYPES = re.compile(
    r"BOOLEAN|U?(TINY|SMALL|BIG)?INT(EGER)?|UINTEGER|DECIMAL\(\d+,\d+\)|FLOAT|DOUBLE|VARCHAR|JSON"
)
_WHOLE = re.compile(r"DECIMAL\(\d+,0\)")
_NESTED = re.compile(r".*\]|STRUCT\(.*|MAP\(.*|UNION\(.*", re.DOTALL)

_SHOWN: Final = frozenset(
    {"", "__show_tables_expanded", "databases", "schemas", "tables", "variables"}
)
_LISTINGS: Final = {
    "databases": (
        "SELECT database_name FROM duckdb_databases()"
        " WHERE NOT internal AND database_name <> 'memory' ORDER BY 1"
    ),
    "__show_tables_expanded": (
        "SELECT database_name AS database, schema_name AS schema, view_name AS name"
        " FROM duckdb_views() WHERE NOT internal ORDER BY ALL"
    ),
    "schemas": (
        "SELECT database_name, schema_name FROM duckdb_schemas() WHERE NOT internal"  # noqa: S608
        f" AND database_name <> 'memory' AND schema_name NOT IN ('main', '{HIDDEN}')"
        " ORDER BY ALL"
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
    except RecursionError:
        raise UsageError(_TOO_DEEP) from None
    except duckdb.InterruptException as error:
        raise CouldNot(f"the query took longer than {timeout_s:g} s") from error
    except duckdb.OutOfMemoryException as error:
        raise CouldNot("the query needs more memory than the warehouse has") from error
    except duckdb.Error as error:
        if kind_of(error) == "refuse":
            raise _refused(error) from error
        raise of_data(error) from error
    except FeedgateError:
        raise
    except Exception as error:  # a query may be any text: whatever it does is its answer
        raise UsageError(f"the query could not be run: {type(error).__name__}") from error


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
            raise UsageError(tree["error_message"], hint=_DIALECT_HINT)
        raise UsageError("this statement is not allowed here", hint=_ALLOWED_HINT)
    source = tree["statements"][0]["node"].get("from_table") or {}
    shows = source.get("type") == "SHOW_REF"
    listing = None
    if shows and source.get("query") is None:
        listing = _LISTINGS.get(_plain(source.get("table_name")))
    names = _Names(cursor, tree["statements"])
    for node in _nodes(tree["statements"]):
        _check_node(node, names)
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


def _plain(name: Any) -> str:
    return str(name or "").strip('"').casefold()


class _Names:
    """The tables that a query may name: declared ones, and what its own WITH names."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, statements: Any) -> None:
        rows = cursor.execute(
            "SELECT internal, database_name, schema_name, view_name FROM duckdb_views()"
        ).fetchall()
        folded = [(internal, *map(_plain, names)) for internal, *names in rows]
        self._declared = {tuple(names) for internal, *names in folded if not internal}
        self._internal = {names[2] for internal, *names in folded if internal}
        self._own = {
            _plain(entry.get("key"))
            for node in _nodes(statements)
            if isinstance(node.get("cte_map"), dict)
            for entry in node["cte_map"].get("map", ())
        }

    def require(self, database: str, schema: str, name: str) -> None:
        """Raises ``UsageError`` unless the table may be named so; an empty part is left out."""
        bare = not database and not schema
        if bare and name in self._own | self._internal:
            if name not in self._internal:
                return
            raise UsageError(f"`{name}` is not readable here", hint=_TABLES_HINT)
        for known in self._declared:
            given = (database or known[0], schema or known[1], name)
            if given == known:
                return
        shown = ".".join(part for part in (database, schema, name) if part)
        raise UsageError(f"there is no table `{shown}` to query", hint=_TABLES_HINT)


def _check_node(node: dict[str, Any], names: _Names) -> None:
    kind = node.get("type")
    if kind == "TABLE_FUNCTION":
        name = _plain((node.get("function") or {}).get("function_name") or "?")
        if name not in _TABLE_FUNCTIONS:
            raise UsageError(f"table function `{name}` is not allowed here")
    elif "function_name" in node:
        name = _plain(node["function_name"])
        refused = name.startswith("pg_") and name not in _POSTGRES_FUNCTIONS
        if refused or name in _REFUSED_FUNCTIONS:
            raise UsageError(f"function `{name}` is not allowed here")
    elif kind in ("BASE_TABLE", "SHOW_REF"):
        database, schema, name = (
            _plain(node.get(part)) for part in ("catalog_name", "schema_name", "table_name")
        )
        if kind == "BASE_TABLE" or name not in _SHOWN:
            names.require(database, schema, name)
        elif HIDDEN.casefold() in (database, schema):
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
    """DuckDB's sentence as it is, without its prefix and its drawing of the place."""
    text = str(error).split("\n\nLINE", 1)[0].replace("\n", " ").strip()
    head, _, rest = text.partition("Error: ")
    return UsageError(rest if rest and head.count(" ") <= 2 else text, hint=_DIALECT_HINT)
