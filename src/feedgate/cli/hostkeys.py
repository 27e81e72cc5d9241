"""``hostkey …``: the SSH host keys, by which suppliers know the gateway."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from feedgate.cli.options import data_option, data_root, json_option, stack_option
from feedgate.cli.output import note, print_json, result, table, time_text
from feedgate.errors import Conflict, CouldNot, UsageError
from feedgate.limits import HOST_KEY_OVERLAP_DAYS, HOST_KEY_RSA_BITS

if TYPE_CHECKING:
    from feedgate.sftp.hostkeys import HostKey, HostKeyFolder

__all__ = ["hostkey"]

_DAY_MS = 86_400_000


@click.group()
def hostkey() -> None:
    """SSH host keys: list, import, rotate, remove; an open door takes a change up in a second.

    \b
    Of each type the oldest key is active: it signs. Later ones are announced to clients that
    have logged in, so that OpenSSH's (UpdateHostKeys) know them before they become active.

    \b
    Examples:
      feedgate hostkey list
      feedgate hostkey add /etc/ssh/ssh_host_rsa_key    # move here from an OpenSSH server
      feedgate hostkey rotate ed25519                   # the old key goes 30 days later
      feedgate hostkey rotate --overlap 0               # a key was stolen: all new, now
      feedgate hostkey remove hostkey-3f1a --yes
    """


@hostkey.command("list")
@stack_option
@data_option
@json_option
def list_keys(stack: Path, data: Path | None, as_json: bool) -> None:
    """List the host keys with fingerprint, state, and the day on which they go.

    \b
    Examples:
      feedgate hostkey list
      feedgate hostkey list --json | jq -r '.host_keys[].public_key'
    """
    keys = _folder(stack, data).keys(_now_ms())
    offered = _offered_types(stack, data)
    rows = [_json(key, offered) for key in keys]
    if as_json:
        print_json({"host_keys": rows})
        return
    table(
        ("KEY", "TYPE", "BITS", "FINGERPRINT", "STATE", "SINCE", "GOES", "DESCRIPTION"),
        [
            (
                key.host_key_id,
                key.type,
                key.bits,
                key.fingerprint,
                row["state"],
                time_text(key.imported_at_ms),
                time_text(key.retires_at_ms),
                key.description,
            )
            for key, row in zip(keys, rows, strict=True)
        ],
    )
    if any(row["state"] == "NOT_OFFERED" for row in rows):
        note("  NOT_OFFERED: the server's SecurityPolicyName does not list the type's algorithms")


@hostkey.command("add")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--description", default="", help="What `hostkey list` shows beside it.")
@stack_option
@data_option
@json_option
def add(file: Path, description: str, stack: Path, data: Path | None, as_json: bool) -> None:
    """Import a private key without passphrase; FILE stays as it is.

    The first key of its type is active at once, another one is announced to clients until you
    remove the older. Before the first `feedgate up`, no others are made beside it.

    \b
    Examples:
      feedgate hostkey add /etc/ssh/ssh_host_ed25519_key
      feedgate hostkey add old_server_rsa --description "moved from sftp.example.com"
    """
    from feedgate.gateway.folder import DataFolder
    from feedgate.sftp.hostkeys import HostKeyFolder
    from feedgate.sftp.keyfiles import KeyFileError, normalise

    if len(description) > 200 or not description.isprintable():
        raise UsageError("a description has 200 printable characters at most")
    try:
        private = normalise(file.read_bytes())
    except OSError as error:
        raise CouldNot(f"cannot read `{file}`: {error.strerror}") from error
    except KeyFileError as error:
        hint = "the private key, not the .pub file; a copy without passphrase: ssh-keygen -p"
        raise UsageError(f"`{file}` is no host key for a gateway: {error}", hint=hint) from error
    folder = HostKeyFolder(DataFolder.create(data_root(stack, data)).hostkeys)
    key = folder.add(private, _now_ms(), description=description)
    _tell([key], as_json)
    if key.type == "ssh-rsa" and key.bits < HOST_KEY_RSA_BITS:
        note(f"  RSA of {key.bits} bits: rotate it when you can")
    if key.state == "ANNOUNCED":
        older = next(one for one in folder.keys(_now_ms()) if one.type == key.type)
        note(f"  it becomes active when {older.host_key_id} goes")
        note(f"  next: feedgate hostkey remove {older.host_key_id} --yes")


@hostkey.command("rotate")
@click.argument("type", required=False, type=click.Choice(["ed25519", "rsa", "ecdsa"]))
@click.option(
    "--overlap",
    default=float(HOST_KEY_OVERLAP_DAYS),
    show_default=True,
    type=click.FloatRange(0, 3650),
    metavar="DAYS",
    help="How long the old key signs while clients learn the new one; 0 for a stolen key.",
)
@stack_option
@data_option
@json_option
def rotate(
    type: str | None,  # noqa: A002 - the argument's name in --help
    overlap: float,
    stack: Path,
    data: Path | None,
    as_json: bool,
) -> None:
    """Make a new key of a TYPE, or of each; the old one goes when the overlap ends.

    Clients other than OpenSSH's learn no keys: send their people the new fingerprint in time.

    \b
    Examples:
      feedgate hostkey rotate
      feedgate hostkey rotate rsa --overlap 90
    """
    made = _folder(stack, data).rotate(type, int(overlap * _DAY_MS), _now_ms())
    _tell(made, as_json)
    if overlap:
        note(f"  the old one signs {overlap:g} days more; clients that log in learn the new one")
    else:
        note("  the old one is gone: tell suppliers the new fingerprint")


@hostkey.command("remove")
@click.argument("key", required=False)
@click.option("--file", "file_name", help="A lost or damaged key, by the name of its file.")
@click.option("--yes", is_flag=True, help="Also a key that signs now.")
@stack_option
@data_option
def remove(
    key: str | None, file_name: str | None, yes: bool, stack: Path, data: Path | None
) -> None:
    """Delete a key, named by its id or fingerprint, or the beginning of one.

    \b
    Examples:
      feedgate hostkey remove SHA256:Lx5
      feedgate hostkey remove hostkey-3f1a6c --yes
      feedgate hostkey remove --file ssh_host_rsa_key
    """
    folder = _folder(stack, data)
    if (key is None) == (file_name is None):
        raise UsageError("name one key, or one file with --file")
    if file_name is not None:
        folder.remove_file(file_name)
        note(f"removed {file_name}")
        return
    found = folder.find(str(key), _now_ms())
    if found.state == "ACTIVE" and not yes:
        raise Conflict(
            f"{found.host_key_id} signs now: a supplier who knows only this key would refuse the "
            "gateway",
            hint="add --yes, or `feedgate hostkey rotate`, which lets clients learn another first",
        )
    folder.remove(found.host_key_id, _now_ms())
    note(f"removed {found.host_key_id} {found.fingerprint}")


def _folder(stack: Path, data: Path | None) -> HostKeyFolder:
    from feedgate.gateway.folder import DataFolder
    from feedgate.sftp.hostkeys import HostKeyFolder

    return HostKeyFolder(DataFolder(data_root(stack, data).absolute()).hostkeys)


def _now_ms() -> int:
    return int(time.time() * 1000)


def _tell(keys: list[HostKey], as_json: bool) -> None:
    if as_json:
        print_json({"host_keys": [_json(key, None) for key in keys]})
        return
    for key in keys:
        result(f"{key.host_key_id} {key.type} {key.fingerprint} {key.state.lower()}")


def _json(key: HostKey, offered: frozenset[str] | None) -> dict[str, Any]:
    is_offered = offered is None or key.type in offered
    return {
        "host_key_id": key.host_key_id,
        "type": key.type,
        "bits": key.bits,
        "fingerprint": key.fingerprint,
        "public_key": key.public_key,
        "state": key.state if is_offered else "NOT_OFFERED",
        "imported_at_ms": key.imported_at_ms,
        "retires_at_ms": key.retires_at_ms,
        "description": key.description,
    }


def _offered_types(stack: Path, data: Path | None) -> frozenset[str] | None:
    """The types of key that the applied stack's security policy signs with; None before `up`."""
    from feedgate.gateway.definition import DefinitionStore
    from feedgate.gateway.folder import DataFolder
    from feedgate.gateway.services import open_database
    from feedgate.sftp.policies import security_policy

    folder = DataFolder(data_root(stack, data).absolute())
    if not folder.database.exists():
        return None
    database = open_database(folder)
    try:
        definition = DefinitionStore(database).applied()
    finally:
        database.close()
    if definition is None:
        return None
    names = security_policy(definition.stack.server.security_policy_name).host_key_algorithms
    return frozenset("ssh-rsa" if name.startswith("rsa-") else name for name in names)
