"""``explain``: the statements in order, the one that decided, and what to paste where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from feedgate.cli.options import (
    data_option,
    data_root,
    json_option,
    run_options,
    run_values,
    stack_option,
)
from feedgate.cli.output import note, print_json, result, safe
from feedgate.errors import NotFound, UsageError

if TYPE_CHECKING:
    from feedgate.access.explain import Explanation, Step
    from feedgate.gateway.definition import Definition

__all__ = ["explain"]


@click.command()
@click.argument("words", nargs=-1, metavar="USER OPERATION PATH [TARGET] | PATH")
@click.option("--pipe", help="Explain whether this pipe may read PATH (a key, or s3://…).")
@stack_option
@data_option
@click.option("--all", "show_all", is_flag=True, help="Show statements that did not match, too.")
@json_option
@run_options
def explain(
    words: tuple[str, ...],
    pipe: str | None,
    stack: Path,
    data: Path | None,
    show_all: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Say why an operation is allowed or refused, by which statement, and what to change.

    Operations have their SFTP names: opendir, readdir, stat, open-read, open-write, close, remove,
    rename, mkdir, rmdir; or what a client calls them: ls, get, put, rm. Exit code 1: refused.

    \b
    Examples:
      feedgate explain jeffrey_aven put /orders/a.csv
      feedgate explain jeffrey_aven rename /orders/a.csv /orders/b.csv
      feedgate explain --pipe orders_pipe
    """
    from feedgate.gateway.access_checks import explain_path, explain_pipe_path

    definition, users = _definition(stack, data, run_values(options))
    if pipe is not None:
        if len(words) > 1:
            raise UsageError("--pipe takes one PATH at most", hint="a key, or s3://BUCKET/KEY")
        key, bucket = words[0] if words else None, None
        if key is not None and key.startswith("s3://"):
            bucket, _, key = key.removeprefix("s3://").partition("/")
        explanation = explain_pipe_path(definition, pipe, key, bucket=bucket)
    else:
        if not 3 <= len(words) <= 4:
            raise UsageError(
                "explain takes USER OPERATION PATH, or --pipe NAME [PATH]",
                hint="for example `feedgate explain jeffrey_aven ls /`",
            )
        if words[1] == "rename" and len(words) < 4:
            raise UsageError(
                "a rename takes the old path and the new one",
                hint=f"for example `feedgate explain {words[0]} rename {words[2]} /new/path`",
            )
        user = users.get(words[0])
        if user is None:
            raise NotFound(
                f"there is no user `{words[0]}`", hint=f"one of {', '.join(sorted(users))}"
            )
        target = words[3] if len(words) == 4 else None
        explanation = explain_path(definition, user, words[1], words[2], target=target)
    if as_json:
        print_json(explanation.as_dict())
    else:
        _print(explanation, show_all=show_all)
    click.get_current_context().exit(0 if explanation.allowed else 1)


def _definition(stack: Path, data: Path | None, values: Any) -> tuple[Definition, dict[str, Any]]:
    """What the gateway serves, live users included; before the first `up`, what the files say."""
    from feedgate.gateway.definition import DefinitionStore
    from feedgate.gateway.folder import DataFolder
    from feedgate.gateway.reading import read_definition
    from feedgate.gateway.services import open_database
    from feedgate.identity.store import UserStore

    folder = DataFolder(data_root(stack, data).absolute())
    if folder.database.exists():
        database = open_database(folder)
        try:
            applied = DefinitionStore(database).applied()
            if applied is not None:
                served = UserStore(database).list()
                return applied, {item.user_name: item.user for item in served}
        finally:
            database.close()
    definition = read_definition(stack, values, None)
    return definition, dict(definition.stack.users)


def _print(explanation: Explanation, *, show_all: bool) -> None:
    verdict = click.style("allowed", fg="green") if explanation.allowed else ""
    verdict = verdict or click.style("refused", fg="red")
    result(f"{verdict}: {explanation.who} {explanation.operation} {safe(explanation.place)}")
    result(f"  as {explanation.principal}")
    if not explanation.trust.allowed:
        result(f"  the role cannot be assumed: {explanation.trust.reason()}")
    if explanation.blocked:
        result(f"  {safe(explanation.blocked)}")
    for step in explanation.steps:
        _print_step(step, show_all=show_all)
    if explanation.client_sees:
        result(f"\nthe client sees: {safe(explanation.client_sees)}")
    for remark in explanation.notes:
        result(f"\n{safe(remark)}")
    for fix in explanation.fixes:
        result(f"\nto allow it, in {fix.where}:")
        text = json.dumps(fix.portable, indent=2) if fix.portable else fix.text()
        for line in text.splitlines():
            result(f"  {line}")
    if explanation.fixes:
        note("\nthen: feedgate apply")


def _print_step(step: Step, *, show_all: bool) -> None:
    mark = click.style("✓", fg="green") if step.allowed else click.style("✗", fg="red")
    alone = " (the role's policies alone)" if step.role_only else ""
    result(f"\n{mark} {step.action} on {safe(step.resource)}, at {step.stage}{alone}")
    for line in step.lines:
        if not line.applied and not show_all:
            continue
        arrow = "→" if line.decided else " "
        why = f": {line.why}" if line.why else ""
        result(f"  {arrow} {line.statement}{why}")
    if not step.allowed:
        result(f"    {step.decision.reason()}")
