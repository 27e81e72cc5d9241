"""``check``: everything that is wrong, ignored or denied, before anyone connects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from feedgate.cli.options import json_option, run_options, run_values, stack_argument
from feedgate.cli.output import finding_json, finding_line, note, print_json, result

if TYPE_CHECKING:
    from feedgate.errors import Finding
    from feedgate.gateway.definition import Definition

__all__ = ["check"]

_ORDER = {"error": 0, "warning": 1, "ignored": 2}


@click.command()
@stack_argument
@click.option("--no-lint", is_flag=True, help="Leave out cfn-lint, which takes about a second.")
@json_option
@run_options
def check(stack: Path, no_lint: bool, as_json: bool, **options: Any) -> None:
    """List what is wrong, what a local run ignores, and who could not do what, and why.

    Exit code 1 where there is an error, 0 otherwise.

    \b
    Examples:
      feedgate check
      feedgate check examples/landing --parameter-overrides file://params/prod.json
    """
    from feedgate.errors import DefinitionError, Source
    from feedgate.gateway.reading import read_definition

    try:
        definition = read_definition(stack, run_values(options), None)
        found = findings_of(definition, lint=not no_lint)
    except DefinitionError as error:
        found = list(error.findings)
    found.sort(key=lambda finding: (_ORDER[finding.severity], finding.source or Source("")))
    errors = sum(finding.severity == "error" for finding in found)
    if as_json:
        print_json({"errors": errors, "findings": [finding_json(finding) for finding in found]})
    else:
        for finding in found:
            result(finding_line(finding))
            if finding.hint:
                result(f"    {finding.hint}")
        note(f"{errors} error(s), {len(found) - errors} remark(s)")
    click.get_current_context().exit(1 if errors else 0)


def findings_of(definition: Definition, *, lint: bool) -> list[Finding]:
    """Every finding about a definition, faults first; cfn-lint's where asked."""
    from feedgate.access.review import policy_findings
    from feedgate.gateway.access_checks import access_findings
    from feedgate.sftp.policies import algorithm_findings
    from feedgate.stack.check import findings
    from feedgate.stack.shared_policy import told_once

    found = list(definition.faults())
    if lint:
        from feedgate.deploy.lint import lint as cfn_lint

        told = {(finding.source, finding.resource) for finding in found}
        linted = cfn_lint(
            definition.template,
            definition.template_text,
            region=definition.region,
            parameters=definition.parameters,
        )
        # one fault, one line
        found += [item for item in linted if (item.source, item.resource) not in told]
    if any(finding.severity == "error" for finding in found):
        return found
    found += findings(definition.stack, definition.warehouse)
    found += policy_findings(definition.stack)
    found += algorithm_findings(definition.stack.server)
    found += access_findings(definition)
    if definition.warehouse is not None:
        found += [item for item in definition.warehouse.findings if item not in found]
    return told_once(found, definition.template)
