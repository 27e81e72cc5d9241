"""``init``, ``render``, ``version``: for whoever writes the definition."""

from __future__ import annotations

import os
from pathlib import Path

import click

from feedgate import __version__
from feedgate.cli.options import json_option, stack_argument
from feedgate.cli.output import note, print_json, result
from feedgate.errors import Conflict

__all__ = ["example_folder", "init", "make_ssh_key", "render", "version", "write_example"]

KEY_FILE = "mysftpkey"
KEY_USER = "jeffrey_aven"


@click.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path), metavar="[DIR]")
@json_option
def init(folder: Path, as_json: bool) -> None:
    """Write the example stack into DIR (default: this folder), never over anything.

    \b
    It makes an SSH key for the example's first user too: `mysftpkey`, readable by you only and
    ignored by git. Its public half goes into users.json.

    \b
    Example:
      feedgate init landing && cd landing && feedgate up
    """
    written = write_example(folder)
    if as_json:
        print_json({"folder": str(folder.absolute()), "files": written})
        return
    for name in written:
        result(name)
    where = "" if folder.absolute() == Path.cwd() else f"cd {folder} && "
    note(f"\nnext: {where}feedgate check && feedgate up")


@click.command()
@stack_argument
def render(stack: Path) -> None:
    """Print the template that CloudFormation would be given.

    Jsonnet becomes JSON, as the `jsonnet` program prints it; a template in JSON or YAML is printed
    as it stands. Parameters, references and conditions stay what they are: their values belong to
    a run, so `check`, `up` and `apply` take --parameter-overrides, and this does not.

    \b
    Examples:
      feedgate render > template.json
      feedgate render examples/landing | cfn-lint -
    """
    from feedgate.gateway.rendering import render_template

    click.echo(render_template(stack), nl=False)


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Print feedgate's version."""
    if as_json:
        print_json({"version": __version__})
    else:
        result(f"feedgate {__version__}")


def example_folder() -> Path:
    """The example stack: package data in a wheel, ``examples/landing`` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "examples" / "landing"
    return shipped if shipped.is_dir() else package.parents[1] / "examples" / "landing"


def write_example(folder: Path) -> list[str]:
    """Copy the example, make an SSH key for its first user; names written, relative to ``folder``.

    Raises:
        Conflict: a file of that name exists; nothing was written.
    """
    from feedgate.gateway.folder import write_atomically
    from feedgate.gateway.users_file import add_public_key

    source = example_folder()
    names = [str(path.relative_to(source)) for path in sorted(source.rglob("*")) if path.is_file()]
    names = [name for name in names if not name.startswith(".feedgate")]
    planned = [*names, KEY_FILE, f"{KEY_FILE}.pub"]
    existing = [name for name in dict.fromkeys(planned) if (folder / name).exists()]
    if existing:
        more = f" and {len(existing) - 3} more of the example's files" if len(existing) > 3 else ""
        raise Conflict(
            f"`{folder}` already holds {', '.join(f'`{name}`' for name in existing[:3])}{more}",
            hint="nothing was written; choose another folder: `feedgate init DIR`",
        )
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((source / name).read_bytes())
    _ignore_in_git(folder / ".gitignore", [".feedgate/", KEY_FILE])
    public_key = make_ssh_key(folder / KEY_FILE, comment=KEY_USER)
    users_file = folder / "users.json"
    write_atomically(
        users_file, add_public_key(users_file.read_text(), KEY_USER, public_key), mode=0o644
    )
    return [*planned, ".gitignore"]


def _ignore_in_git(path: Path, names: list[str]) -> None:
    """Add what git must never see; a file that is there already keeps its lines."""
    lines = path.read_text().splitlines() if path.exists() else []
    lines += [name for name in names if name not in lines]
    path.write_text("\n".join(lines) + "\n")


def make_ssh_key(path: Path, *, comment: str) -> str:
    """Make an Ed25519 key pair at ``path`` (0600) and ``path.pub``; the public line is returned."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    line = f"{public.decode()} {comment}"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(private)
    path.with_name(path.name + ".pub").write_text(line + "\n")
    return line
