"""Options that several commands share: where the stack is, where its data is, what a run gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from feedgate.errors import UsageError

if TYPE_CHECKING:
    from feedgate.gateway.folder import DataFolder
    from feedgate.gateway.reading import RunValues

__all__ = [
    "data_folder",
    "data_option",
    "json_option",
    "run_options",
    "run_values",
    "stack_argument",
    "stack_option",
]

F = TypeVar("F", bound=Callable[..., Any])

stack_argument = click.argument(
    "stack",
    default=".",
    type=click.Path(path_type=Path),
    metavar="[STACK]",
)
stack_option = click.option(
    "--stack",
    default=".",
    type=click.Path(path_type=Path),
    help="The stack's folder (default: this one).",
)
data_option = click.option(
    "--data",
    envvar="FEEDGATE_DATA",
    type=click.Path(path_type=Path),
    help="The data folder (default: .feedgate in the stack's folder).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def run_options(command: F) -> F:
    """Options whose values the definition takes, named as the AWS CLI names them."""
    decorators = [
        click.option(
            "--parameter-overrides",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE|file://FILE",
            help="Template parameters, several after one another, or AWS's JSON file.",
        ),
        click.option("--stack-name", help="Stack name (default: the folder's)."),
        click.option("--account", help="AWS::AccountId (default 000000000000)."),
        click.option("--region", help="AWS::Region (default us-east-1)."),
        click.option(
            "--physical-id",
            "physical_ids",
            multiple=True,
            metavar="LOGICALID=VALUE",
            help="Let a local resource answer to a real id.",
        ),
        click.option(
            "--import-value",
            "imports",
            multiple=True,
            metavar="EXPORT=VALUE",
            help="What Fn::ImportValue finds.",
        ),
        click.option(
            "-D",
            "defines",
            multiple=True,
            metavar="NAME=VALUE",
            help="A value for &{NAME} in warehouse.sql.",
        ),
    ]
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


def run_values(options: dict[str, Any]) -> RunValues:
    """Take ``run_options``' values out of a command's keyword arguments.

    Raises:
        UsageError: a pair is not KEY=VALUE, or a parameter file cannot be read.
    """
    from feedgate.gateway.reading import RunValues
    from feedgate.stack.parameters import parse_overrides

    return RunValues(
        name=options.pop("stack_name"),
        account=options.pop("account"),
        region=options.pop("region"),
        parameters=parse_overrides(options.pop("overrides"), _read_text),
        physical_ids=_pairs("--physical-id", options.pop("physical_ids")),
        imports=_pairs("--import-value", options.pop("imports")),
        defines=_pairs("-D", options.pop("defines")),
    )


def _pairs(option: str, words: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UsageError(f"`{option} {word}` is not NAME=VALUE")
        pairs[name] = value
    return pairs


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the parameter file `{path}`: {error}") from error


def data_folder(stack: Path, data: Path | None) -> DataFolder:
    """The data folder of a gateway that has run before."""
    from feedgate.gateway.folder import DataFolder

    return DataFolder.existing(data_root(stack, data))


def data_root(stack: Path, data: Path | None) -> Path:
    """Where the data folder is, or will be."""
    if data is not None:
        return data
    return (stack if stack.is_dir() else stack.parent) / ".feedgate"
