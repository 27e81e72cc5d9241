"""cfn-lint's opinion of a rendered template, at the author's places.

Why a wrapper: cfn-lint gives lines of the text that it was handed, which for Jsonnet is text that
nobody wrote; its paths lead back through ``Template.source``. It is the optional extra ``lint``
and takes half a second to import, so it is imported on the first call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from feedgate.errors import Finding, Source
from feedgate.stack.properties import OWN_SECURITY_POLICIES
from feedgate.stack.template import Path, Template

__all__ = ["lint"]

# cfn-lint has a third level, informational; it asks nobody to act now.
_LEVELS: Final[Mapping[str, Literal["error", "warning"]]] = {"error": "error"}


def lint(
    template: Template,
    text: str,
    *,
    region: str = "us-east-1",
    parameters: Mapping[str, str] | None = None,
) -> list[Finding]:
    """Return cfn-lint's findings on ``text``, the rendering of ``template``.

    With ``parameters`` the values that they take are checked too. Without cfn-lint installed, one
    warning says how to install it. Takes about a second.
    """
    try:
        from cfnlint.api import lint as cfn_lint  # noqa: PLC0415 - optional and slow
        from cfnlint.config import ManualArgs  # noqa: PLC0415
    except ImportError:
        message = "cfn-lint is not installed, so the template's properties are not checked"
        return [Finding("warning", message, hint="pip install 'feedgate[lint]'", rule="cfn-lint")]
    options: dict[str, Any] = {"regions": [region]}
    if parameters:
        options["parameters"] = [_parameter_set(parameters)]
    try:
        matches = cfn_lint(text, config=ManualArgs(**options))
    except Exception as error:  # cfn-lint raises whatever its own parts raise
        message = f"cfn-lint could not judge the template: {' '.join(str(error).split())}"
        return [Finding("error", message, Source(template.file), rule="cfn-lint")]
    found = {_finding(template, match) for match in matches if not _own_policy(match)}
    return sorted(found, key=lambda one: (one.source or Source(""), one.message))


def _parameter_set(parameters: Mapping[str, str]) -> Any:
    from cfnlint.context.parameters import ParameterSet  # noqa: PLC0415

    return ParameterSet(source=None, parameters=dict(parameters))


def _finding(template: Template, match: Any) -> Finding:
    path = _path(match)
    resource = str(path[1]) if path[:1] == ("Resources",) and len(path) > 1 else None
    source = template.source(path)
    if not template.authored and not path and not template.file.endswith(".jsonnet"):
        source = Source(template.file, match.linenumber, match.columnnumber)
    message = " ".join(str(match.message).split())
    return Finding(
        _LEVELS.get(match.rule.severity, "warning"),
        message,
        source,
        resource,
        rule=str(match.rule.id),
    )


def _own_policy(match: Any) -> bool:
    """A security policy of feedgate's own: `stack` says where it exists and where not."""
    return "SecurityPolicyName" in _path(match) and any(
        name in str(match.message) for name in OWN_SECURITY_POLICIES
    )


def _path(match: Any) -> Path:
    steps: Sequence[Any] = getattr(match, "path", None) or ()
    return tuple(step if isinstance(step, int) else str(step) for step in steps)
