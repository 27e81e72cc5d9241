"""``doctor``: why a supplier cannot connect, in one answer, and what mends it."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from feedgate.cli.options import data_folder, data_option, json_option, stack_option
from feedgate.cli.output import print_json, result, safe
from feedgate.errors import Conflict, CouldNot, UsageError

if TYPE_CHECKING:
    from feedgate.cli.diagnosis import Diagnosis
    from feedgate.identity.store import UserStore

__all__ = ["doctor"]


@click.command()
@click.argument("user_name", metavar="USER")
@click.option("--from", "address", metavar="ADDRESS", help="From where the supplier connects.")
@stack_option
@data_option
@json_option
def doctor(
    user_name: str, address: str | None, stack: Path, data: Path | None, as_json: bool
) -> None:
    """Say why a supplier cannot connect: one cause, and the command that mends it.

    \b
    Looks at what the gateway serves now and at what it saw of this user (`feedgate logins`).
    Exit code 0: nothing keeps him out. 1: there is a cause.
    Examples:
      feedgate doctor acme
      feedgate doctor acme --from 203.0.113.7
      feedgate doctor acme --json | jq -r .cause
    """
    from feedgate.stack.access_tags import address_of

    if address is not None and address_of(address) is None:
        raise UsageError(f"`{address}` is no address", hint="for example --from 203.0.113.7")
    found = _look(user_name, address, stack, data)
    if as_json:
        print_json(found.as_dict())
    else:
        _print(found)
    click.get_current_context().exit(0 if found.cause is None else 1)


def _look(user_name: str, address: str | None, stack: Path, data: Path | None) -> Diagnosis:
    from feedgate.cli.diagnosis import diagnose
    from feedgate.cli.evidence import Facts
    from feedgate.gateway.definition import DefinitionStore
    from feedgate.gateway.services import open_database
    from feedgate.identity.logins import LoginStore
    from feedgate.identity.store import UserStore

    folder = data_folder(stack, data)
    with closing(open_database(folder)) as database:
        definition = DefinitionStore(database).applied()
        if definition is None:
            raise CouldNot(f"nothing has been applied to `{folder.root}` yet", hint="feedgate up")
        users = UserStore(database)
        return diagnose(
            Facts(
                user_name=user_name,
                users={user.user_name: user for user in users.list()},
                was_removed=_was_removed(users, user_name),
                definition=definition,
                store=LoginStore(database),
                running=folder.running(),
                host_keys=folder.hostkeys,
                address=address,
                now=time.time(),
            )
        )


def _was_removed(users: UserStore, user_name: str) -> bool:
    try:
        users.refuse_removed(user_name)
    except Conflict:
        return True
    return False


def _print(found: Diagnosis) -> None:
    from feedgate.telemetry import utc_iso

    name = safe(found.user_name)
    if found.cause is None:
        result(f"{name}: {click.style('ok', fg='green')}")
    else:
        result(f"{name}: {click.style(found.cause, fg='red')}")
    result(f"  {safe(found.summary)}")
    seen = found.seen
    if seen is not None:
        first, last = utc_iso(seen.first_at), utc_iso(seen.last_at)
        times = f"{seen.count} times from {first} to {last}" if seen.count > 1 else last
        client = f", client {seen.client_version}" if seen.client_version else ""
        result(f"  seen: {times}, at {safe(seen.source_ip)}{safe(client)}")
    for remark in found.notes:
        result(f"  {safe(remark)}")
    if found.mend:
        result("to mend it:")
    for step in found.mend:
        result(f"  {safe(step)}")
