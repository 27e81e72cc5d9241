"""``user …``: users and their SSH keys, in users.json or live."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from feedgate.cli.options import data_folder, data_option, data_root, json_option, stack_option
from feedgate.cli.output import note, print_json, result, table
from feedgate.cli.user_access import key_record, password, show, state_of
from feedgate.errors import DefinitionError, NotFound, UsageError

if TYPE_CHECKING:
    from feedgate.gateway.user_changes import Effect, UserChange
    from feedgate.identity.store import UserStore
    from feedgate.identity.users import GatewayUser
    from feedgate.stack.resources import User

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
    from feedgate.gateway.user_changes import UserChange
    from feedgate.gateway.users_file import add_user
    from feedgate.identity.users import USER_NAME_PATTERN

    if not USER_NAME_PATTERN.fullmatch(user_name):
        raise UsageError(
            f"`{user_name}` is no user name", hint="3 to 100 letters, digits, `_`, `@`, `.`, `-`"
        )
    keys = [_read_public_key(path) for path in key_files]

    def add_to_gateway(store: UserStore, defined: User | None) -> None:
        if defined is not None:
            store.add_live_user(defined)
        else:
            store.add_live(user_name, keys, like=like)

    change = UserChange(
        user_name,
        lambda text: add_user(text, user_name, keys, _mappings_like(text, like, user_name)),
        add_to_gateway,
        lambda served: served is not None and _fingerprints(keys) <= _held(served),
    )
    _refuse_removed(stack, data, user_name)
    effect = _make(stack, data, change, live=live, in_file=True)
    note(f"added {user_name}{_to_come(effect)}")
    if not keys:
        note(f"  next: feedgate user key add {user_name} FILE.pub")


user.add_command(password)
user.add_command(show)


@user.command("list")
@stack_option
@data_option
@json_option
def list_users(stack: Path, data: Path | None, as_json: bool) -> None:
    """List users as they are served now.

    \b
    Example:
      feedgate user list
    """
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
                        "authentication": item.authentication,
                        "ssh_public_keys": [key_record(key) for key in item.ssh_public_keys],
                    }
                    for item in users
                ]
            }
        )
        return
    table(
        ("USER", "STATE", "DEFINED", "SSH KEYS", "LAST KEY USE", "ROLE"),
        [
            (
                item.user_name,
                state_of(item),
                item.origin,
                ", ".join(key.fingerprint for key in item.ssh_public_keys) or "none",
                _last_use(item),
                item.user.role_arn,
            )
            for item in users
        ],
        cut=("USER", "ROLE"),  # a fingerprint is there to be copied
    )


def _last_use(item: GatewayUser) -> str:
    from feedgate.telemetry import utc_iso

    uses = [key.last_used_at for key in item.ssh_public_keys if key.last_used_at is not None]
    return utc_iso(max(uses)) if uses else "never"


@user.command("remove")
@click.argument("user_name")
@live_option
@stack_option
@data_option
def remove(user_name: str, live: bool, stack: Path, data: Path | None) -> None:
    """Remove a user; what he sent stays.

    \b
    Example:
      feedgate user remove acme
    """
    from feedgate.gateway.user_changes import UserChange
    from feedgate.gateway.users_file import has_user, remove_user

    change = UserChange(
        user_name,
        lambda text: remove_user(text, user_name),
        lambda store, _defined: store.remove(user_name),
        lambda served: served is None,
    )
    in_file = _file_says(stack, lambda text: has_user(text, user_name))
    effect = _make(stack, data, change, live=live, in_file=in_file)
    note(f"removed {user_name}{_to_come(effect)}")


@user.command("disable")
@click.argument("user_name")
@stack_option
@data_option
def disable(user_name: str, stack: Path, data: Path | None) -> None:
    """Refuse a user's logins and end his sessions; outlives restarts.

    \b
    Example:
      feedgate user disable acme
    """
    _set_enabled(stack, data, user_name, False)
    note(f"disabled {user_name}")


@user.command("enable")
@click.argument("user_name")
@stack_option
@data_option
def enable(user_name: str, stack: Path, data: Path | None) -> None:
    """Let a disabled user in again.

    \b
    Example:
      feedgate user enable acme
    """
    _set_enabled(stack, data, user_name, True)
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
    """Add a public key from FILE (the one that ends in .pub).

    \b
    Example:
      feedgate user key add acme acme.pub
    """
    from feedgate.gateway.user_changes import UserChange
    from feedgate.gateway.users_file import add_public_key, has_public_key, has_user

    line = _read_public_key(file)
    fingerprints = _fingerprints([line])
    _refuse_removed(stack, data, user_name)
    in_file = _file_says(stack, lambda text: has_user(text, user_name))
    if _file_says(stack, lambda text: has_public_key(text, user_name, _is_one_of(fingerprints))):
        in_file = False  # the file is right; where it was taken away live, it comes back live
    change = UserChange(
        user_name,
        lambda text: add_public_key(text, user_name, line),
        lambda store, _defined: store.add_key(user_name, line),
        lambda served: served is not None and fingerprints <= _held(served),
    )
    effect = _make(stack, data, change, live=live, in_file=in_file)
    if effect.served is not None and not effect.served.enabled:
        note(f"{user_name} has that key, but is disabled and cannot log in")
        note(f"  next: feedgate user enable {user_name}")
    else:
        note(f"{user_name} can log in with that key{_to_come(effect)}")


@key.command("remove")
@click.argument("user_name")
@click.argument("key_name", metavar="FINGERPRINT|FILE")
@live_option
@stack_option
@data_option
def key_remove(user_name: str, key_name: str, live: bool, stack: Path, data: Path | None) -> None:
    """Remove a public key, named by its SHA256 fingerprint or by its file; its sessions end.

    \b
    Example:
      feedgate user key remove acme acme.pub
    """
    from feedgate.gateway.user_changes import UserChange
    from feedgate.gateway.users_file import has_public_key, remove_public_key

    fingerprint = key_name
    if not key_name.startswith("SHA256:"):
        (fingerprint,) = _fingerprints([_read_public_key(Path(key_name))])
    matches = _is_one_of({fingerprint})
    change = UserChange(
        user_name,
        lambda text: remove_public_key(text, user_name, matches),
        lambda store, _defined: store.remove_key(user_name, fingerprint),
        lambda served: served is None or fingerprint not in _held(served),
    )
    in_file = _file_says(stack, lambda text: has_public_key(text, user_name, matches))
    effect = _make(stack, data, change, live=live, in_file=in_file)
    note(f"{user_name} can no longer log in with {fingerprint}{_to_come(effect)}")


def _read_public_key(path: Path) -> str:
    """One public key line, checked."""
    from feedgate.identity.users import parse_public_key

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the public key `{path}`: {error}") from error
    found = parse_public_key(text)
    return found.line


def _fingerprints(lines: Iterable[str]) -> set[str]:
    from feedgate.identity.users import fingerprint_of

    return {found for found in map(fingerprint_of, lines) if found is not None}


def _is_one_of(fingerprints: set[str]) -> Callable[[str], bool]:
    return lambda line: bool(_fingerprints([line]) & fingerprints)


def _held(served: GatewayUser) -> set[str]:
    return {key.fingerprint for key in served.ssh_public_keys}


def _file_says(stack: Path, asked: Callable[[str], bool]) -> bool:
    from feedgate.gateway.user_changes import find_users_file

    path = find_users_file(stack)
    return path is not None and asked(path.read_text(encoding="utf-8"))


def _make(
    stack: Path, data: Path | None, change: UserChange, *, live: bool, in_file: bool
) -> Effect:
    """Make the change where it belongs, and say what of the stack waits beside it."""
    from feedgate.gateway.folder import DataFolder
    from feedgate.gateway.user_changes import change_in_file, change_live, find_users_file

    if live or not in_file:
        return change_live(data_folder(stack, data), change)
    users_file = find_users_file(stack)
    if users_file is None:
        raise NotFound(
            f"no template in `{stack}` imports a users.json",
            hint="name the stack's folder with --stack, or change only the gateway with --live",
        )
    folder = DataFolder(data_root(stack, data).absolute())
    try:
        effect = change_in_file(stack, users_file, folder, change)
    except DefinitionError:
        note("the stack has faults; the change is NOT in effect, and users.json is as it was")
        note("  next: correct them, or change only the gateway with --live")
        raise
    for item in effect.waiting:
        result(f"waits for --yes: {item}")
    if effect.waiting:
        note("the rest of the stack was not applied; next: feedgate apply --yes")
    return effect


def _to_come(effect: Effect) -> str:
    return "" if effect.is_gateway else ", once `feedgate up` has run"


def _refuse_removed(stack: Path, data: Path | None, user_name: str) -> None:
    """Nothing that is given to a user whom somebody removed live has an effect."""
    from feedgate.gateway.folder import DataFolder
    from feedgate.gateway.services import open_database
    from feedgate.identity.store import UserStore

    folder = DataFolder(data_root(stack, data).absolute())
    if folder.database.exists():
        with closing(open_database(folder)) as database:
            UserStore(database).refuse_removed(user_name)


def _set_enabled(stack: Path, data: Path | None, user_name: str, enabled: bool) -> None:
    from feedgate.gateway.user_changes import UserChange, change_live

    change = UserChange(
        user_name,
        lambda text: text,
        lambda store, _defined: store.set_enabled(user_name, enabled),
        lambda served: served is not None and served.enabled == enabled,
    )
    change_live(data_folder(stack, data), change)


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
