"""``user password`` and ``user show``: by what a user gets in."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from feedgate.cli.options import data_folder, data_option, json_option, stack_option
from feedgate.cli.output import note, print_json, result, safe
from feedgate.errors import NotFound, UsageError

if TYPE_CHECKING:
    from feedgate.gateway.user_changes import UserChange
    from feedgate.identity.users import GatewayUser, SshPublicKey

__all__ = ["key_record", "password", "show", "state_of"]


@click.command("password")
@click.argument("user_name")
@click.option("--file", "file", metavar="FILE", help="Read it from FILE's first line; - is stdin.")
@click.option("--require-key", is_flag=True, help="Ask for it after one of the user's SSH keys.")
@click.option("--remove", is_flag=True, help="Take the password away; its sessions end.")
@stack_option
@data_option
def password(
    user_name: str,
    file: str | None,
    require_key: bool,
    remove: bool,
    stack: Path,
    data: Path | None,
) -> None:
    """Let a user in by a password, for suppliers that have no SSH key.

    \b
    AWS Transfer has no passwords for its service-managed users, so this one is the gateway's alone
    and no part of the stack. Kept is an Argon2id hash.
    Examples:
      feedgate user password acme                    # asks twice
      feedgate user password acme --file secret.txt
      feedgate user password acme --require-key      # key first, then password
      feedgate user password acme --remove
    """
    from feedgate.gateway.user_changes import UserChange, change_live
    from feedgate.identity.passwords import hash_password
    from feedgate.identity.users import Password

    if remove and (file is not None or require_key):
        raise UsageError("`--remove` goes alone")
    kept = None if remove else Password(hash_password(_read(file)), require_key)
    change: UserChange = UserChange(
        user_name,
        lambda text: text,
        lambda store, _defined: store.set_password(user_name, kept),
        lambda served: served is not None and served.password == kept,
    )
    served = change_live(data_folder(stack, data), change).served
    if remove:
        note(f"{user_name} can no longer log in with a password")
        return
    note(f"{user_name} can log in with {'an SSH key and ' if require_key else ''}that password")
    if require_key and served is not None and not served.ssh_public_keys:
        note(f"  next: feedgate user key add {user_name} FILE.pub")


def _read(file: str | None) -> str:
    """The password, never an argument: those are everybody's to read while the command runs."""
    if file is None:
        if not sys.stdin.isatty():
            raise UsageError("no terminal to ask for the password", hint="give --file FILE or -")
        text: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return text
    try:
        if file == "-":
            return sys.stdin.readline().rstrip("\r\n")
        with Path(file).open(encoding="utf-8") as lines:
            return lines.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the password from `{file}`: {error}") from error


@click.command("show")
@click.argument("user_name")
@stack_option
@data_option
@json_option
def show(user_name: str, stack: Path, data: Path | None, as_json: bool) -> None:
    """Show one user: state, what he gets in by, from where, and when a key was used last.

    \b
    Example:
      feedgate user show acme
    """
    from feedgate.gateway.services import open_database
    from feedgate.identity.store import UserStore

    with closing(open_database(data_folder(stack, data))) as database:
        found = UserStore(database).get(user_name)
    if found is None:
        raise NotFound(f"there is no user `{user_name}`", hint="`feedgate user list` names them")
    record = _record(found)
    if as_json:
        print_json(record)
        return
    for name in ("user_name", "state", "origin", "role", "authentication"):
        _line(name.replace("_", " "), record[name])
    for name in ("allowed_addresses", "denied_addresses", "expires_at"):
        if record[name] is not None:
            _line(name.replace("_", " "), record[name])
    for key in record["ssh_public_keys"]:
        _line("SSH key", f"{key['fingerprint']}  {key['comment']}".rstrip())
        if key["options"]:
            _line("  options", key["options"])
        _line("  last used", key["last_used_at"] or "never")


def _line(name: str, value: object) -> None:
    result(safe(f"{name + ':':<20}{value}"))


def _record(found: GatewayUser) -> dict[str, Any]:
    from feedgate.stack.access_tags import ALLOWED_TAG, DENIED_TAG, EXPIRES_TAG

    tags = found.user.tags
    return {
        "user_name": found.user_name,
        "state": state_of(found),
        "origin": found.origin,
        "role": found.user.role_arn,
        "authentication": found.authentication,
        "allowed_addresses": tags.get(ALLOWED_TAG),
        "denied_addresses": tags.get(DENIED_TAG),
        "expires_at": tags.get(EXPIRES_TAG),
        "ssh_public_keys": [key_record(key) for key in found.ssh_public_keys],
    }


def key_record(key: SshPublicKey) -> dict[str, Any]:
    """An SSH key as JSON shows it; ``last_used_at`` is exact to a minute."""
    from feedgate.telemetry import utc_iso

    return {
        "fingerprint": key.fingerprint,
        "type": key.type,
        "body": key.body,
        "comment": key.comment,
        "options": key.options.text,
        "last_used_at": utc_iso(key.last_used_at) if key.last_used_at is not None else None,
    }


def state_of(found: GatewayUser) -> str:
    """``enabled``, ``disabled`` or ``expired``."""
    import time

    from feedgate.identity.gate import user_refusal
    from feedgate.identity.refusals import RefusalCause

    if not found.enabled:
        return "disabled"
    is_over = user_refusal(found, "", time.time()) is RefusalCause.USER_EXPIRED
    return "expired" if is_over else "enabled"
