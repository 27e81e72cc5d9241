"""One conversion as SQL: the value, and what is wrong where there is none.

A load never lets DuckDB raise on a supplier's value: it asks for the value with casts that give
NULL, and for a boolean that says the value could not be had, so that every bad row of a file is
found in one pass and named as Snowflake names it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["ERROR_VALUE_CHARS_MAX", "Conversion", "all_of", "literal", "message", "quoted", "valid"]

ERROR_VALUE_CHARS_MAX = 200  # of a supplier's value, in a message


@dataclass(frozen=True, slots=True)
class Conversion:
    """SQL expressions over one row.

    ``value_sql`` is NULL where the conversion fails; ``error_sql`` is a boolean, never NULL, true
    where it fails; ``message_sql`` (VARCHAR) and ``code_sql`` (VARCHAR, Snowflake's error number)
    mean something only where ``error_sql`` is true, and are dear: ask them of failed rows only.
    """

    value_sql: str
    error_sql: str = "false"
    message_sql: str = "NULL"
    code_sql: str = "NULL"

    @property
    def can_fail(self) -> bool:
        """False where no row can fail, so that nothing need be asked."""
        return self.error_sql != "false"

    @property
    def size(self) -> int:
        """Characters of value, error and message."""
        return len(self.value_sql) + len(self.error_sql) + len(self.message_sql)

    def then(self, after: Callable[[str], Conversion]) -> Conversion:
        """``after`` applied to this value; this conversion's own fault comes first."""
        following = after(self.value_sql)
        return all_of((self, following), following.value_sql)


def valid(value_sql: str) -> Conversion:
    """A conversion that cannot fail."""
    return Conversion(value_sql)


def all_of(parts: Sequence[Conversion], value_sql: str) -> Conversion:
    """``value_sql`` where every part holds; otherwise the fault of the first part that has one."""
    failing = [part for part in parts if part.can_fail]
    if not failing:
        return Conversion(value_sql)
    if len(failing) == 1:
        one = failing[0]
        return Conversion(value_sql, one.error_sql, one.message_sql, one.code_sql)
    *earlier, last = failing
    messages = "".join(f"WHEN {part.error_sql} THEN {part.message_sql} " for part in earlier)
    codes = "".join(f"WHEN {part.error_sql} THEN {part.code_sql} " for part in earlier)
    return Conversion(
        value_sql,
        "(" + " OR ".join(part.error_sql for part in failing) + ")",
        f"(CASE {messages}ELSE {last.message_sql} END)",
        f"(CASE {codes}ELSE {last.code_sql} END)",
    )


def literal(text: str) -> str:
    """A DuckDB string literal."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A DuckDB identifier."""
    return '"' + name.replace('"', '""') + '"'


def message(template: str, value_sql: str) -> str:
    """SQL for ``template`` with its one ``{}`` replaced by the offending value, cut to a bound."""
    before, _, after = template.partition("{}")
    shown = f"left(CAST({value_sql} AS VARCHAR), {ERROR_VALUE_CHARS_MAX})"
    return f"({literal(before)} || {shown} || {literal(after)})"
