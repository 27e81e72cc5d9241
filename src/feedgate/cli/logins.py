"""``logins``: who logged in and who was refused, from the table that the supervisor keeps."""

from __future__ import annotations

import re
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from feedgate.cli.options import data_folder, data_option, json_option, stack_option
from feedgate.cli.output import note, print_json, table, time_text
from feedgate.errors import UsageError

if TYPE_CHECKING:
    from feedgate.gateway.folder import DataFolder
    from feedgate.identity.logins import LoginRecord

__all__ = ["logins"]

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}


@click.command()
@click.option("--user", "user_name", metavar="USER", help="Only what named this user.")
@click.option("--failed", is_flag=True, help="Only refused connections.")
@click.option("--since", metavar="TIME", help="Only the last 30m, 1h, 7d …")
@click.option("-n", "--lines", default=50, show_default=True, help="How many at most.")
@click.option("--lift", metavar="ADDRESS", help="Forget the failed logins of an address, instead.")
@stack_option
@data_option
@json_option
def logins(
    user_name: str | None,
    failed: bool,
    since: str | None,
    lines: int,
    lift: str | None,
    stack: Path,
    data: Path | None,
    as_json: bool,
) -> None:
    """List who logged in and who was refused, and why; the newest first.

    \b
    A line is one outcome of one user from one address: how often, and when first and last. What is
    older than 90 days is forgotten. `feedgate doctor USER` says what to do.
    Examples:
      feedgate logins
      feedgate logins --failed --since 1h
      feedgate logins --user acme --json
      feedgate logins --lift 203.0.113.7      # it may try again at once
    """
    from feedgate.cli.diagnosis import record_fields
    from feedgate.gateway.services import open_database
    from feedgate.identity.logins import LoginStore

    folder = data_folder(stack, data)
    if lift is not None:
        _lift(folder, lift)
        return
    now = time.time()
    with closing(open_database(folder)) as database:
        records = LoginStore(database).list(
            user_name=user_name,
            failed=failed,
            since=now - _seconds(since) if since is not None else 0.0,
            count_max=lines,
        )
    if as_json:
        print_json({"logins": [record_fields(record) for record in records]})
        return
    if not records:
        note("no such connection was seen")
        return
    table(
        ("LAST", "FIRST", "TIMES", "USER", "ADDRESS", "OUTCOME", "KEY", "CLIENT"),
        [_cells(record) for record in records],
        cut=("USER", "CLIENT"),
    )


def _cells(record: LoginRecord) -> tuple[object, ...]:
    return (
        time_text(int(record.last_at * 1000)),
        time_text(int(record.first_at * 1000)),
        record.count,
        record.user_name,
        record.source_ip,
        record.cause or "logged-in",
        " ".join(record.fingerprints[:1]) or record.method,
        record.client_version.removeprefix("SSH-2.0-"),
    )


def _seconds(text: str) -> float:
    """``90s``, ``30m``, ``1h``, ``7d``, ``2w``. Raises ``UsageError``."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    if found is None:
        raise UsageError(f"`--since {text}` is no time", hint="for example 30m, 1h or 7d")
    return int(found[1]) * float(_UNITS[found[2]])


def _lift(folder: DataFolder, address: str) -> None:
    from feedgate.gateway.admission import source_of
    from feedgate.gateway.services import open_database
    from feedgate.identity.logins import LoginStore
    from feedgate.stack.access_tags import address_of

    if address_of(address) is None:
        raise UsageError(f"`{address}` is no address", hint="one that `feedgate logins` lists")
    with closing(open_database(folder)) as database:
        LoginStore(database).pardon(source_of(address))
    note(f"the failed logins of {address} are forgotten within two seconds")
