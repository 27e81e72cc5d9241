"""The table of commands, and the one place where an error becomes an exit code.

Exit codes: 0 done, 1 a finding or a denial, 2 usage, 3 changes pending (only where
``--detailed-exitcode`` asks), 4 could not (not running, network, disk), 70 our bug.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from feedgate import __version__
from feedgate.cli.output import fail

if TYPE_CHECKING:
    from feedgate.errors import UsageError

__all__ = ["COMMANDS", "cli", "main"]

EXIT_BUG = 70


@dataclass(frozen=True, slots=True)
class CommandRow:
    """A command: its group in ``--help``, the module that holds it, one line on what it does."""

    section: str
    module: str
    attribute: str
    summary: str


COMMANDS: dict[str, CommandRow] = {
    "init": CommandRow("Author", "author", "init", "Write the example stack into a folder."),
    "render": CommandRow("Author", "author", "render", "Print the template for CloudFormation."),
    "check": CommandRow("Author", "checking", "check", "List what is wrong, ignored or denied."),
    "up": CommandRow("Run", "operate", "up", "Serve the stack of a folder over SFTP."),
    "down": CommandRow("Run", "operate", "down", "Stop the gateway, letting transfers finish."),
    "apply": CommandRow("Run", "operate", "apply", "Apply an edited stack to the gateway."),
    "status": CommandRow("Run", "watch", "status", "Show what runs, waits or needs a decision."),
    "logs": CommandRow("Run", "watch", "logs", "Print the gateway's log."),
    "demo": CommandRow("Run", "demo", "demo", "Watch a file become rows, in a scratch folder."),
    "user": CommandRow("Access", "users", "user", "Add, list, disable, remove users and SSH keys."),
    "hostkey": CommandRow(
        "Access", "hostkeys", "hostkey", "List, import, rotate, remove SSH host keys."
    ),
    "explain": CommandRow(
        "Access", "explain", "explain", "Say why an operation is allowed or not."
    ),
    "logins": CommandRow("Access", "logins", "logins", "List who logged in and who was refused."),
    "doctor": CommandRow("Access", "doctor", "doctor", "Say why a supplier cannot connect."),
    "ls": CommandRow("Data", "objects", "ls", "List objects of a bucket."),
    "cat": CommandRow("Data", "objects", "cat", "Write an object to stdout."),
    "cp": CommandRow("Data", "objects", "cp", "Copy to or from a bucket."),
    "rm": CommandRow("Data", "objects", "rm", "Remove an object."),
    "receipts": CommandRow("Data", "loads", "receipts", "List what was sent and what it became."),
    "receipt": CommandRow("Data", "loads", "receipt", "Show one receipt whole."),
    "query": CommandRow("Data", "loads", "query", "Query the warehouse."),
    "version": CommandRow("Other", "author", "version", "Print the version."),
}


class CommandTable(click.Group):
    """A group whose commands are imported when they run, listed by section."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        row = COMMANDS.get(cmd_name)
        if row is None:
            return None
        module = importlib.import_module(f"feedgate.cli.{row.module}")
        command: click.Command = getattr(module, row.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, row in COMMANDS.items():
            sections.setdefault(row.section, []).append((name, row.summary))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl(rows)


@click.group(
    cls=CommandTable,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nStart:   feedgate init && feedgate up\nWatch:   feedgate demo\n"
    'Complete: eval "$(_FEEDGATE_COMPLETE=bash_source feedgate)"  (or zsh_source, fish_source)',
)
@click.version_option(__version__, prog_name="feedgate")
def cli() -> None:
    """An SFTP gateway for data platforms, defined by template.jsonnet and warehouse.sql.

    Run inside a stack folder, commands need no arguments. State lives in `.feedgate/` there, or
    where --data or FEEDGATE_DATA says.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    from feedgate.errors import CouldNot, FeedgateError, UsageError

    words = expand_overrides(list(sys.argv[1:] if arguments is None else arguments))
    as_json = "--json" in words
    try:
        code = cli.main(words, prog_name="feedgate", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        fail(usage_error(error, words), as_json=as_json)
        sys.exit(UsageError.exit_code)
    except FeedgateError as error:
        fail(error, as_json=as_json)
        sys.exit(error.exit_code)
    except SystemExit as leave:
        # click turns a closed pipe into 1, which here would read as a finding or a denial
        closed_pipe = isinstance(leave.__context__, BrokenPipeError)
        sys.exit(0 if closed_pipe else leave.code)
    except OSError as error:
        place = f" `{error.filename}`" if error.filename else ""
        fail(CouldNot(f"cannot use{place}: {error.strerror or error}"), as_json=as_json)
        sys.exit(CouldNot.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:
        import traceback

        traceback.print_exc()
        click.echo("feedgate: this is a bug in feedgate, please report the lines above", err=True)
        sys.exit(EXIT_BUG)
    sys.exit(code if isinstance(code, int) else 0)


def usage_error(error: click.ClickException, words: Sequence[str]) -> UsageError:
    """What click found wrong with the words, in the shape of every other error."""
    import difflib

    from feedgate.errors import UsageError

    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        path = context.command_path
    else:  # click's parser of options does not say whose they are
        path = " ".join(["feedgate", *[word for word in words if word in COMMANDS][:1]])
    near: Sequence[str] = ()
    if isinstance(error, click.NoSuchOption):
        message, near = f"there is no option `{error.option_name}`", error.possibilities or ()
        if path == "feedgate":
            message += " before a command"
            near = [f"feedgate COMMAND {error.option_name}"]
    elif isinstance(error, click.exceptions.NoSuchCommand):
        message = f"there is no command `{error.command_name}`"
        if context is not None and isinstance(context.command, click.Group):
            names = context.command.list_commands(context)
            near = difflib.get_close_matches(error.command_name, names)
    else:
        message = " ".join(error.format_message().split()).rstrip(".")
        message = re.sub(r"'([^']*)'", r"`\1`", message)
        message = message[:1].lower() + message[1:]
    meant = f"did you mean {' or '.join(f'`{word}`' for word in near)}? " if near else ""
    return UsageError(message, hint=f"{meant}`{path} --help` shows the usage")


def expand_overrides(words: list[str]) -> list[str]:
    """``--parameter-overrides A=1 B=2 file://p.json`` as the AWS CLI takes it: one option each."""
    expanded: list[str] = []
    inside = False
    for word in words:
        if word == "--parameter-overrides":
            inside = True
        elif inside and not word.startswith("-") and ("=" in word or word.startswith("file://")):
            expanded += ["--parameter-overrides", word]
        else:
            inside = False
            expanded.append(word)
    return expanded
