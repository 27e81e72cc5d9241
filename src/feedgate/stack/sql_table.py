"""CREATE TABLE: columns, types, defaults, constraints.

Types are Snowflake's ("Summary of data types"), written down under one name each. As on Snowflake,
PRIMARY KEY makes its columns NOT NULL, and it and UNIQUE are not enforced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from feedgate.stack.sql_options import text
from feedgate.stack.sql_reader import Cursor, shown
from feedgate.stack.sql_state import Creation, Declared
from feedgate.stack.sql_text import SqlFault
from feedgate.stack.warehouse import Column, Table

__all__ = ["read_table", "read_type"]

VARCHAR_CHARS_MAX: Final = 134_217_728
NUMBER_DIGITS_MAX: Final = 38

_NUMBERS = ("NUMBER", "DECIMAL", "NUMERIC", "DEC")
_INTEGERS = ("INT", "INTEGER", "BIGINT", "SMALLINT", "TINYINT", "BYTEINT")
_TEXTS = ("VARCHAR", "STRING", "TEXT", "NVARCHAR", "NVARCHAR2")
_CHARS = ("CHAR", "CHARACTER", "NCHAR")
_TIMES: Final = {
    "TIME": "TIME",
    "DATETIME": "TIMESTAMP_NTZ",
    "TIMESTAMP_NTZ": "TIMESTAMP_NTZ",
    "TIMESTAMPNTZ": "TIMESTAMP_NTZ",
    "TIMESTAMP_LTZ": "TIMESTAMP_LTZ",
    "TIMESTAMPLTZ": "TIMESTAMP_LTZ",
    "TIMESTAMP_TZ": "TIMESTAMP_TZ",
    "TIMESTAMPTZ": "TIMESTAMP_TZ",
}
_PLAIN: Final = {
    "BOOLEAN": "BOOLEAN",
    "DATE": "DATE",
    "VARIANT": "VARIANT",
    "OBJECT": "OBJECT",
    "ARRAY": "ARRAY",
    "FLOAT": "FLOAT",
    "FLOAT4": "FLOAT",
    "FLOAT8": "FLOAT",
    "REAL": "FLOAT",
}
_NOT_HERE = ("GEOGRAPHY", "GEOMETRY", "VECTOR", "MAP", "FILE", "DECFLOAT", "INTERVAL", "UUID")

_DEFAULT_FUNCTIONS = (
    "CURRENT_TIMESTAMP",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "SYSDATE",
    "UUID_STRING",
)
_WITHOUT_EFFECT = (
    "DATA_RETENTION_TIME_IN_DAYS",
    "MAX_DATA_EXTENSION_TIME_IN_DAYS",
    "CHANGE_TRACKING",
    "ENABLE_SCHEMA_EVOLUTION",
)


@dataclass(slots=True)
class _Draft:
    columns: list[Column] = field(default_factory=list)
    primary_key: tuple[str, ...] = ()
    unique: list[tuple[str, ...]] = field(default_factory=list)


def read_table(cursor: Cursor, declared: Declared, made: Creation) -> None:
    """Read from the table's name on, and declare the table."""
    made.if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    source = cursor.source
    name = declared.name(cursor, "a table")
    if not cursor.at("("):
        raise cursor.fault(
            f"CREATE TABLE … {shown(cursor.token)} is not done yet", hint="list the columns"
        )
    draft = _columns(cursor)
    comment = _table_options(cursor)
    keys = (draft.primary_key, *draft.unique)
    for missing in {each for key in keys for each in key} - {each.name for each in draft.columns}:
        cursor.collect(f"a constraint names `{missing}`, which is no column", offset=made.start)
    if not draft.columns:
        raise cursor.fault(f"table `{name}` has no columns", offset=made.start)
    columns = tuple(
        replace(each, nullable=False) if each.name in draft.primary_key else each
        for each in draft.columns
    )
    declared.require_free(cursor, made, "table", declared.tables, name)
    declared.tables[name] = Table(
        name, columns, source, draft.primary_key, tuple(draft.unique), comment
    )


def _columns(cursor: Cursor) -> _Draft:
    cursor.expect("(")
    draft = _Draft()
    while True:
        mark = cursor.mark()
        try:
            if any(cursor.at(word) for word in ("PRIMARY", "UNIQUE", "CONSTRAINT", "FOREIGN")):
                _table_constraint(cursor, draft)
            else:
                _add(cursor, draft)
        except SqlFault as fault:
            cursor.findings.append(fault.finding)
            cursor.reset(mark)
            cursor.skip_to(",", ")")
        if not cursor.accept(","):
            cursor.expect(")")
            return draft


def _add(cursor: Cursor, draft: _Draft) -> None:
    start = cursor.offset
    column = _column(cursor, draft)
    for other in draft.columns:
        if other.name.casefold() == column.name.casefold():
            how = "is named twice" if other.name == column.name else "differs only by case"
            cursor.collect(f"column `{column.name}` {how}", offset=start)
            return
    draft.columns.append(column)


def _column(cursor: Cursor, draft: _Draft) -> Column:
    source = cursor.source
    name = cursor.identifier("a column")
    type_name, length, scale = read_type(cursor)
    column = Column(name, type_name, length, scale, source=source)
    while not cursor.at(",") and not cursor.at(")"):
        column = _attribute(cursor, column, draft)
    return column


def _attribute(cursor: Cursor, column: Column, draft: _Draft) -> Column:
    start = cursor.offset
    if cursor.accept("NOT", "NULL"):
        return replace(column, nullable=False)
    if cursor.accept("DEFAULT"):
        return replace(column, default=_default(cursor))
    if cursor.accept("COMMENT"):
        cursor.accept("=")
        return replace(column, comment=cursor.string("a comment"))
    if cursor.accept("CONSTRAINT"):
        cursor.identifier("a constraint's name")
    elif cursor.accept("PRIMARY", "KEY"):
        draft.primary_key = (column.name,)
        _constraint_properties(cursor)
    elif cursor.accept("UNIQUE"):
        draft.unique.append((column.name,))
        _constraint_properties(cursor)
    elif not cursor.accept("NULL"):
        word = cursor.word("a column attribute, a comma or a closing parenthesis").upper
        raise cursor.fault(
            f"column attribute {word} is not done yet",
            hint="only NOT NULL, DEFAULT, COMMENT, PRIMARY KEY and UNIQUE are",
            offset=start,
        )
    return column


def _default(cursor: Cursor) -> str:
    """A literal, or a function of the moment; as SQL that DuckDB reads too."""
    token = cursor.take()
    if token.kind == "string":
        return "'" + token.text.replace("'", "''") + "'"
    if token.kind == "number":
        return token.text
    if token.text in ("-", "+") and cursor.token is not None and cursor.token.kind == "number":
        return token.text + cursor.take().text
    if token.upper in ("TRUE", "FALSE", "NULL"):
        return token.upper
    if token.upper in _DEFAULT_FUNCTIONS:
        if cursor.at("("):
            cursor.skip_parenthesis()
        return f"{token.upper}()"
    raise cursor.fault(
        f"DEFAULT {shown(token)} is not done yet",
        hint="a literal, or " + ", ".join(_DEFAULT_FUNCTIONS),
        offset=token.start,
    )


def _table_constraint(cursor: Cursor, draft: _Draft) -> None:
    if cursor.accept("CONSTRAINT"):
        cursor.identifier("a constraint's name")
    if cursor.accept("PRIMARY", "KEY"):
        draft.primary_key = _names(cursor)
    elif cursor.accept("UNIQUE"):
        draft.unique.append(_names(cursor))
    else:
        raise cursor.fault(f"constraint {shown(cursor.token)} is not done yet")
    _constraint_properties(cursor)


def _constraint_properties(cursor: Cursor) -> None:
    """RELY, NOT ENFORCED and their kin change nothing: no constraint is enforced."""
    words = ("NOT", "ENFORCED", "RELY", "NORELY", "DEFERRABLE", "ENABLE", "DISABLE", "VALIDATE")
    while any(cursor.at(word) for word in words) and not cursor.at("NOT", "NULL"):
        cursor.take()


def _names(cursor: Cursor) -> tuple[str, ...]:
    cursor.expect("(")
    names = [cursor.identifier("a column")]
    while cursor.accept(","):
        names.append(cursor.identifier("a column"))
    cursor.expect(")")
    return tuple(names)


def _table_options(cursor: Cursor) -> str | None:
    if cursor.at("CLUSTER", "BY"):
        cursor.remark("ignored", "CLUSTER BY has no effect here", rule="table-option")
        cursor.accept("CLUSTER", "BY")
        cursor.skip_parenthesis()
    comment: str | None = None
    for option in cursor.options():
        if option.key == "COMMENT":
            comment = text(cursor, option)
        elif option.key in _WITHOUT_EFFECT:
            cursor.remark(
                "ignored",
                f"{option.key} has no effect here",
                rule="table-option",
                offset=option.start,
            )
        else:
            cursor.collect(f"table option {option.key} is not done yet", offset=option.start)
    return comment


# -- types --------------------------------------------------------------------------------------


_Type = tuple[str, int | None, int | None]


def read_type(cursor: Cursor) -> _Type:
    """One type: its name here, then length or precision, then scale.

    Raises:
        SqlFault: not a type, or one that is not stored here.
    """
    start = cursor.offset
    word = cursor.word("a type").upper
    if word in _NOT_HERE:
        raise cursor.fault(f"type {word} is not stored here", offset=start)
    reader = _TYPE_READERS.get(word)
    if reader is None:
        raise cursor.fault(f"`{word}` is not a type of Snowflake's", offset=start)
    return reader(cursor, start, word)


def _integer(_cursor: Cursor, _start: int, _word: str) -> _Type:
    return "NUMBER", NUMBER_DIGITS_MAX, 0


def _plain(cursor: Cursor, start: int, word: str) -> _Type:
    if cursor.at("(") and word in ("OBJECT", "ARRAY"):
        raise cursor.fault(f"structured {word}(…) is not done yet", offset=start)
    return _PLAIN[word], None, None


def _double(cursor: Cursor, _start: int, _word: str) -> _Type:
    cursor.accept("PRECISION")
    return "FLOAT", None, None


def _binary(cursor: Cursor, _start: int, _word: str) -> _Type:
    return "BINARY", _argument(cursor), None


def _time(cursor: Cursor, start: int, word: str) -> _Type:
    name = _TIMES.get(word)
    precision = _argument(cursor)
    if precision is not None and precision > 9:
        raise cursor.fault("a time has at most 9 fraction digits", offset=start)
    return name or _zone(cursor), precision, None


def _argument(cursor: Cursor) -> int | None:
    if not cursor.accept("("):
        return None
    value = cursor.integer("a length")
    cursor.expect(")")
    return value


def _number(cursor: Cursor, start: int, _word: str) -> _Type:
    precision, scale = NUMBER_DIGITS_MAX, 0
    if cursor.accept("("):
        precision = cursor.integer("a precision")
        if cursor.accept(","):
            scale = cursor.integer("a scale")
        cursor.expect(")")
    if not 1 <= precision <= NUMBER_DIGITS_MAX or scale > min(precision, 37):
        raise cursor.fault(f"NUMBER({precision},{scale}) does not exist", offset=start)
    return "NUMBER", precision, scale


def _text(cursor: Cursor, start: int, word: str) -> _Type:
    fixed = word in _CHARS and not cursor.accept("VARYING")
    length = _argument(cursor)
    if length is not None and not 1 <= length <= VARCHAR_CHARS_MAX:
        raise cursor.fault(f"{word}({length}) does not exist", offset=start)
    return "VARCHAR", 1 if fixed and length is None else length, None


def _zone(cursor: Cursor) -> str:
    """TIMESTAMP is TIMESTAMP_NTZ unless the account says otherwise (TIMESTAMP_TYPE_MAPPING)."""
    if cursor.accept("WITH", "LOCAL", "TIME", "ZONE"):
        return "TIMESTAMP_LTZ"
    if cursor.accept("WITH", "TIME", "ZONE"):
        return "TIMESTAMP_TZ"
    cursor.accept("WITHOUT", "TIME", "ZONE")
    return "TIMESTAMP_NTZ"


_TYPE_READERS: Final[dict[str, Callable[[Cursor, int, str], _Type]]] = {
    **dict.fromkeys(_NUMBERS, _number),
    **dict.fromkeys(_INTEGERS, _integer),
    **dict.fromkeys((*_TEXTS, *_CHARS), _text),
    **dict.fromkeys((*_TIMES, "TIMESTAMP"), _time),
    **dict.fromkeys(("BINARY", "VARBINARY"), _binary),
    **dict.fromkeys(_PLAIN, _plain),
    "DOUBLE": _double,
}
