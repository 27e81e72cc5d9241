"""``receipts``, ``receipt``, ``query``: what was sent, what it became, and the rows."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import click

from feedgate.cli.options import data_folder, data_option, json_option, stack_option
from feedgate.cli.output import note, print_json, result, safe, size_text, table, time_text
from feedgate.errors import CouldNot, NotFound
from feedgate.ledger.receipts import LoadStatus
from feedgate.limits import POLL_S, QUERY_WAIT_S

if TYPE_CHECKING:
    from feedgate.gateway.folder import DataFolder
    from feedgate.gateway.queries import Answer
    from feedgate.ledger.receipts import PipeLoad, Receipt
    from feedgate.ledger.store import Ledger

__all__ = ["query", "receipt", "receipts"]


@click.command()
@stack_option
@data_option
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(1))
@click.option("--user", "user_name", help="Only this user's.")
@click.option("--status", type=click.Choice(get_args(LoadStatus)), help="Only with such a load.")
@json_option
def receipts(
    stack: Path,
    data: Path | None,
    limit: int,
    user_name: str | None,
    status: LoadStatus | None,
    as_json: bool,
) -> None:
    """List receipts, newest first: who sent what, and what it became.

    \b
    Examples:
      feedgate receipts
      feedgate receipts --user jeffrey_aven -n 100 --json
    """
    with open_ledger(data_folder(stack, data), texts=as_json) as (ledger, names):
        found = ledger.receipts(limit, user_name=user_name, status=status)
    if as_json:
        print_json({"receipts": [receipt_json(item, names) for item in found]})
        return
    if not found:
        note("no file has landed yet")
        return
    table(
        ("RECEIPT", "LANDED", "USER", "PATH", "SIZE", "STATUS", "ROWS", "ERRORS", "TABLE"),
        [row for item in found for row in _receipt_rows(item, names)],
        cut=("USER", "PATH", "TABLE"),
    )


@contextmanager
def open_ledger(folder: DataFolder, *, texts: bool) -> Iterator[tuple[Ledger, tuple[str, ...]]]:
    """The ledger of a data folder, and the names that no pipe is offered.

    ``texts``: with what errors say, which lies under a KMS key.
    """
    from feedgate.gateway.definition import DefinitionStore
    from feedgate.gateway.sealing import receipt_sealer
    from feedgate.gateway.services import open_database
    from feedgate.ledger.store import Ledger
    from feedgate.stack.limit_tags import temporary_names

    database = open_database(folder)
    try:
        applied = DefinitionStore(database).applied()
        names = temporary_names(applied.stack.server.tags) if applied is not None else ()
        yield Ledger(database, sealer=receipt_sealer(folder, database) if texts else None), names
    finally:
        database.close()


def _why_unloaded(item: Receipt, names: Sequence[str]) -> str | None:
    """Why no pipe took it; None where one did, or where it waits for the loader."""
    from feedgate.pipes.match import is_temporary

    if item.loads or not item.offered:
        return None
    if item.landing.is_partial:
        return "partial"
    return "temporary name" if is_temporary(item.landing.key, names) else "no pipe"


_UNLOADED_TEXTS: Final = {
    "partial": "never loaded: the connection ended before the file was whole",
    "temporary name": "not offered to the pipes: an unfinished upload by its name; rename it",
    "no pipe": "no pipe covers this object",
    None: "not offered to the pipes yet",
}


def _receipt_rows(item: Receipt, names: Sequence[str]) -> list[tuple[object, ...]]:
    landing = item.landing
    head = (
        landing.landing_id,
        time_text(landing.landed_at_ms),
        landing.user_name,
        landing.path,
        size_text(landing.size),
    )
    if not item.loads:
        state = _why_unloaded(item, names) or "PENDING"
        return [(*head, state, "", "", "")]
    return [
        (*head, load.status, load.rows_loaded, load.errors_seen, load.table) for load in item.loads
    ]


@click.group()
def receipt() -> None:
    """One receipt: who sent a file, where it landed, which rows it became."""


@receipt.command("show")
@click.argument("receipt_id")
@stack_option
@data_option
@json_option
def show(receipt_id: str, stack: Path, data: Path | None, as_json: bool) -> None:
    """Show a receipt whole.

    The beginning of its id is enough where it is unique.

    \b
    Example:
      feedgate receipt show 01M87AQFYQ2
    """
    with open_ledger(data_folder(stack, data), texts=True) as (ledger, names):
        found = ledger.receipt(receipt_id)
    if found is None:
        raise NotFound(f"there is no receipt `{receipt_id}`", hint="`feedgate receipts` lists them")
    if as_json:
        print_json({"receipt": receipt_json(found, names)})
        return
    landing = found.landing
    source = f" from {landing.source_ip}" if landing.source_ip else ""  # none: the operator's copy
    for name, value in (
        ("receipt", landing.landing_id),
        ("user", landing.user_name),
        ("SSH key", landing.ssh_key_fingerprint),
        ("client", f"{landing.client_version}{source}"),
        ("session", landing.session_id),
        ("path", landing.path),
        ("object", f"s3://{landing.bucket}/{landing.key}"),
        ("version", landing.version_id),
        ("size", f"{landing.size} bytes"),
        ("SHA-256", landing.sha256),
        ("KMS key", landing.kms_key_arn or "feedgate's own"),
        ("landed", time_text(landing.landed_at_ms)),
    ):
        if value:
            result(f"{name:<8}  {safe(value)}")
    for load in found.loads:
        _print_load(load)
    if not found.loads:
        result(_UNLOADED_TEXTS[_why_unloaded(found, names)])


def _print_load(load: PipeLoad) -> None:
    result("")
    result(f"{load.pipe} → {load.table}: {load.status}")
    result(
        f"  {load.rows_parsed} rows parsed, {load.rows_loaded} loaded,"
        f" {load.errors_seen} errors{_at(load.loaded_at_ms)}"
    )
    if load.message:
        result(f"  {safe(load.message)}")
    for error in load.errors:
        column = f", column {error.column_name}" if error.column_name else ""
        place = f"line {error.line}, character {error.character}{column}"
        result(f"  {place}" if load.errors_sealed else f"  {place}: {safe(error.message)}")
    if load.errors_sealed:
        result(f"  the texts are sealed under a key that cannot be used: {load.errors_sealed}")


def _at(unix_ms: int | None) -> str:
    return f", at {time_text(unix_ms)}" if unix_ms else ""


def receipt_json(item: Receipt, names: Sequence[str]) -> dict[str, Any]:
    """A receipt's documented JSON shape. ``unloaded``: why no pipe took it, if none did."""
    from dataclasses import asdict

    return {
        **asdict(item.landing),
        "is_partial": bool(item.landing.is_partial),
        "offered": item.offered,
        "unloaded": _why_unloaded(item, names),
        "loads": [asdict(load) for load in item.loads],
    }


@click.command()
@click.argument("sql")
@stack_option
@data_option
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
)
@json_option
def query(sql: str, stack: Path, data: Path | None, output_format: str, as_json: bool) -> None:
    """Run a SELECT on the warehouse, while the gateway runs and while it does not.

    \b
    Examples:
      feedgate query "SELECT count(*) FROM orders"
      feedgate query "SELECT * FROM landing.raw.orders LIMIT 10" --format csv
    """
    answer = run_query(stack, data, sql)
    if as_json or output_format == "json":
        print_json(
            {
                "columns": answer.columns,
                "types": answer.types,
                "rows": answer.rows,
                "truncated": answer.truncated,
            }
        )
    elif output_format == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(answer.columns)
        writer.writerows([[_plain(cell) for cell in row] for row in answer.rows])
    else:
        table(answer.columns, [[_shown(cell) for cell in row] for row in answer.rows])
        note(f"{len(answer.rows)} row(s)")
    if answer.truncated:
        note(f"only the first {len(answer.rows)} rows are shown; add a LIMIT or a WHERE")


def run_query(stack: Path, data: Path | None, sql: str) -> Answer:
    """Ask the running gateway, or the files where none runs."""
    from feedgate.gateway.queries import ask

    folder = data_folder(stack, data)
    deadline = time.monotonic() + QUERY_WAIT_S
    while (answer := ask(folder.query_socket, sql)) is None and folder.running() is not None:
        # its loader is just starting, and must not find the files locked by us
        if time.monotonic() > deadline:
            raise CouldNot(
                f"the gateway's loader did not answer within {QUERY_WAIT_S} s",
                hint="`feedgate logs` shows why",
            )
        time.sleep(POLL_S / 10)
    if answer is not None:
        return answer
    from feedgate.gateway.loading import query_offline
    from feedgate.gateway.services import Services
    from feedgate.telemetry import EventLog

    services = Services(folder, EventLog(sys.stderr, now=time.time))
    try:
        return query_offline(folder, services, sql)
    finally:
        services.close()


def _shown(cell: object) -> object:
    return "NULL" if cell is None else _plain(cell)


def _plain(cell: object) -> object:
    """SQL's spelling of what JSON and Python spell otherwise."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return json.dumps(cell) if isinstance(cell, dict | list) else cell
