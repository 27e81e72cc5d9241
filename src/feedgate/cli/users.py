"""``user …``: users and their SSH keys, in users.json or live."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from feedgate.cli.options import data_folder, data_option, data_root, json_option, stack_option
from feedgate.cli.output import note, print_json, result, table
from feedgate.errors import DefinitionError, FeedgateError, NotFound, UsageError

if TYPE_CHECKING:
    from feedgate.identity.store import UserStore

__all__ = ["user"]

live_option = click.option("--live", is_flag=True, help="Change only the gateway, not users.json.")


@click.group()
def user() -> None:
    """Users and their SSH keys; the running gateway takes a change up within a second.

    \b
    Changes go into users.json and are applied from there; with --live they change only the
    gateway, and `feedgate status` shows them as drift.
    """


@user.command("add")
@click.argument("user_name")
@click.option(
    "--key",
    "key_files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A public key file (.pub); may be given several times.",
)
@click.option("--like", help="Copy role, policy and folders from this user (default: the first).")
@live_option
@stack_option
@data_option
def add(
    user_name: str,
    key_files: tuple[Path, ...],
    like: str | None,
    live: bool,
    stack: Path,
    data: Path | None,
) -> None:
    """Add a supplier.

    \b
    Example:
      feedgate user add acme --key acme.pub
    """
    from feedgate.gateway.users_file import add_user
    from feedgate.identity.users import USER_NAME_PATTERN

    if not USER_NAME_PATTERN.fullmatch(user_name):
        raise UsageError(
            f"`{user_name}` is no user name", hint="3 to 100 letters, digits, `_`, `@`, `.`, `-`"
        )
    keys = [_read_public_key(path) for path in key_files]
    if live:
        _with_store(stack, data, lambda store: store.add_live(user_name, keys, like=like))
    else:
        _edit_users_file(
            stack,
            data,
            lambda text: add_user(text, user_name, keys, _mappings_like(text, like, user_name)),
        )
    note(f"added {user_name}")
    if not keys:
        note(f"  next: feedgate user key add {user_name} FILE.pub")


@user.command("list")
@stack_option
@data_option
@json_option
def list_users(stack: Path, data: Path | None, as_json: bool) -> None:
    """List users as they are served now."""
    from feedgate.gateway.services import open_database
    from feedgate.identity.store import UserStore

    database = open_database(data_folder(stack, data))
    try:
        users = UserStore(database).list()
    finally:
        database.close()
    if as_json:
        print_json(
            {
                "users": [
                    {
                        "user_name": item.user_name,
                        "enabled": item.enabled,
                        "origin": item.origin,
                        "role": item.user.role_arn,
                        "ssh_public_keys": [
                            {"fingerprint": key.fingerprint, "type": key.type, "body": key.body}
                            for key in item.ssh_public_keys
                        ],
                    }
                    for item in users
                ]
            }
        )
        return
    table(
        ("USER", "STATE", "DEFINED", "SSH KEYS", "ROLE"),
        [
            (
                item.user_name,
                "enabled" if item.enabled else "disabled",
                item.origin,
                ", ".join(key.fingerprint for key in item.ssh_public_keys) or "none",
                item.user.role_arn,
            )
            for item in users
        ],
    )


@user.command("remove")
@click.argument("user_name")
@live_option
@stack_option
@data_option
def remove(user_name: str, live: bool, stack: Path, data: Path | None) -> None:
    """Remove a user; what he sent stays."""
    from feedgate.gateway.users_file import remove_user

    if live or not _in_users_file(stack, user_name):
        _with_store(stack, data, lambda store: store.remove(user_name))
    else:
        _edit_users_file(stack, data, lambda text: remove_user(text, user_name))
    note(f"removed {user_name}")


@user.command("disable")
@click.argument("user_name")
@stack_option
@data_option
def disable(user_name: str, stack: Path, data: Path | None) -> None:
    """Refuse a user's logins and end his sessions; outlives restarts."""
    _with_store(stack, data, lambda store: store.set_enabled(user_name, False))
    note(f"disabled {user_name}")


@user.command("enable")
@click.argument("user_name")
@stack_option
@data_option
def enable(user_name: str, stack: Path, data: Path | None) -> None:
    """Let a disabled user in again."""
    _with_store(stack, data, lambda store: store.set_enabled(user_name, True))
    note(f"enabled {user_name}")


@user.group("key")
def key() -> None:
    """A user's SSH public keys."""


@key.command("add")
@click.argument("user_name")
@click.argument("file", type=click.Path(path_type=Path))
@live_option
@stack_option
@data_option
def key_add(user_name: str, file: Path, live: bool, stack: Path, data: Path | None) -> None:
    """Add a public key from FILE (the one that ends in .pub)."""
    from feedgate.gateway.users_file import add_public_key

    line = _read_public_key(file)
    if live or not _in_users_file(stack, user_name):
        _with_store(stack, data, lambda store: store.add_key(user_name, line))
    else:
        _edit_users_file(stack, data, lambda text: add_public_key(text, user_name, line))
    note(f"{user_name} can log in with that key")


@key.command("remove")
@click.argument("user_name")
@click.argument("key_name", metavar="FINGERPRINT|FILE")
@live_option
@stack_option
@data_option
def key_remove(user_name: str, key_name: str, live: bool, stack: Path, data: Path | None) -> None:
    """Remove a public key, named by its SHA256 fingerprint or by its file; its sessions end."""
    from feedgate.gateway.users_file import remove_public_key
    from feedgate.identity.users import parse_public_key

    fingerprint = (
        key_name
        if key_name.startswith("SHA256:")
        else parse_public_key(_read_public_key(Path(key_name))).fingerprint
    )
    if live or not _in_users_file(stack, user_name):
        _with_store(stack, data, lambda store: store.remove_key(user_name, fingerprint))
    else:
        _edit_users_file(
            stack,
            data,
            lambda text: remove_public_key(
                text, user_name, lambda line: parse_public_key(line).fingerprint == fingerprint
            ),
        )
    note(f"{user_name} can no longer log in with {fingerprint}")


def _read_public_key(path: Path) -> str:
    """One public key line, checked."""
    from feedgate.identity.users import parse_public_key

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the public key `{path}`: {error}") from error
    found = parse_public_key(text)
    return f"{found.body} {found.comment}".rstrip()


def _users_path(stack: Path) -> Path:
    return (stack if stack.is_dir() else stack.parent) / "users.json"


def _in_users_file(stack: Path, user_name: str) -> bool:
    from feedgate.gateway.users_file import has_user

    path = _users_path(stack)
    return path.exists() and has_user(path.read_text(encoding="utf-8"), user_name)


def _with_store(stack: Path, data: Path | None, change: Callable[[UserStore], Any]) -> None:
    """Change the gateway's users directly; the generation tells its workers."""
    from feedgate.gateway.services import open_database
    from feedgate.identity.store import UserStore

    database = open_database(data_folder(stack, data))
    try:
        change(UserStore(database))
    finally:
        database.close()


def _edit_users_file(stack: Path, data: Path | None, edit: Callable[[str], str]) -> None:
    """Edit users.json and apply the stack; a stack that then has a fault gets its file back."""
    from feedgate.gateway.folder import write_atomically

    path = _users_path(stack)
    if not path.exists():
        raise NotFound(
            f"there is no `{path}`",
            hint="name the stack's folder with --stack, or change only the gateway with --live",
        )
    before = path.read_text(encoding="utf-8")
    write_atomically(path, edit(before), mode=path.stat().st_mode & 0o777)
    try:
        _apply(stack, data)
    except FeedgateError:
        write_atomically(path, before, mode=path.stat().st_mode & 0o777)
        raise


def _apply(stack: Path, data: Path | None) -> None:
    """Apply to a gateway that has run before; otherwise only check the definition."""
    from feedgate.cli.operate import Application
    from feedgate.gateway.folder import DataFolder
    from feedgate.gateway.reading import RunValues, read_definition
    from feedgate.gateway.services import open_database

    folder = DataFolder(data_root(stack, data).absolute())
    if not folder.database.exists():
        definition = read_definition(stack, RunValues(), None)
        if faults := definition.faults():
            raise DefinitionError(faults)
        return
    database = open_database(folder)
    try:
        outcome = Application(stack, RunValues()).apply(folder, database)
    finally:
        database.close()
    for change in outcome.waiting:
        result(f"waits for --yes: {change}")
    if outcome.waiting:
        note("  next: feedgate apply --yes")


def _mappings_like(text: str, like: str | None, user_name: str) -> list[dict[str, Any]]:
    """The folders of another user, with this one's name in the place of his."""
    import json

    users = json.loads(text)
    models = [item for item in users if like is None or item.get("UserName") == like]
    if not models:
        if like is not None:
            raise NotFound(f"the user `{like}` is not in users.json")
        raise UsageError("users.json has no user to copy folders from", hint="add one by hand")
    model = models[0]
    swap = "/" + str(model["UserName"])
    mappings = []
    for mapping in model.get("HomeDirectoryMappings", []):
        target = "/".join(
            user_name if f"/{part}" == swap else part for part in str(mapping["Target"]).split("/")
        )
        mappings.append({**mapping, "Target": target})
    return mappings
