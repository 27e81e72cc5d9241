"""A deliberately naive second evaluator: raw documents, plain loops, regular expressions.

It shares no code with ``feedgate.iam``. Slow and short, so that it can be read against the tables
of the IAM User Guide. Variables are replaced by escaped text before a pattern becomes a regex.
"""

from __future__ import annotations

import re
from typing import Any

NEGATED = {"StringNotEquals", "StringNotLike", "ArnNotLike"}


def as_list(value: Any) -> list[Any]:
    """A JSON value or list as a list."""
    return value if isinstance(value, list) else [value]


def regex(text: str, lookup: dict[str, str] | None) -> str | None:
    """A policy's text as a regular expression; None where a variable has no value."""
    out, place = "", 0
    while place < len(text):
        found = re.match(r"\$\{([^}]*)\}", text[place:]) if lookup is not None else None
        if found:
            name = found[1]
            if name in ("*", "?", "$"):
                out += re.escape(name)
            elif name.lower() in lookup:
                out += re.escape(lookup[name.lower()])
            else:
                return None
            place += len(found[0])
            continue
        out += {"*": ".*", "?": "."}.get(text[place]) or re.escape(text[place])
        place += 1
    return out


def matches(pattern: str, value: str, lookup: dict[str, str] | None, *, wild: bool = True) -> bool:
    """Whether a whole value fits."""
    if not wild:
        pattern = (
            pattern.replace("*", "${*}").replace("?", "${?}") if lookup is not None else pattern
        )
        if lookup is None:
            return pattern == value
    made = regex(pattern, lookup)
    return made is not None and re.fullmatch(made, value, re.DOTALL) is not None


def arn_matches(pattern: str, arn: str, lookup: dict[str, str] | None) -> bool:
    """Segment by segment."""
    if pattern == "*":
        return True
    parts, segments = pattern.split(":", 5), arn.split(":", 5)
    return len(segments) == 6 and all(
        matches(part, segment, lookup) for part, segment in zip(parts, segments, strict=True)
    )


def condition_holds(
    operator: str, key: str, wanted: Any, context: dict[str, str], lookup: dict[str, str] | None
) -> bool:
    """One operator on one key with a single value."""
    base = operator.removesuffix("IfExists")
    value = context.get(key.lower())
    if base == "Null":
        return any((str(w).lower() == "true") == (value is None) for w in as_list(wanted))
    if value is None:
        return base in NEGATED or base != operator
    if base.startswith("Arn"):
        found = any(arn_matches(w, value, lookup) for w in as_list(wanted))
    elif base == "Bool":
        found = any(str(w).lower() == value for w in as_list(wanted))
    else:
        wild = "Like" in base
        found = any(matches(w, value, lookup, wild=wild) for w in as_list(wanted))
    return found != (base in NEGATED)


def names(element: Any, caller: dict[str, str]) -> set[str]:
    """How a Principal element names the caller."""
    if element == "*":
        return {"everybody"}
    found = set()
    for text in as_list(element.get("AWS", [])):
        if text == "*":
            found.add("everybody")
        if text == caller["session"]:
            found.add("session")
        if text == caller["role"]:
            found.add("role")
        if text in (caller["account"], f"arn:aws:iam::{caller['account']}:root"):
            found.add("account")
    return found


def applies(
    statement: dict[str, Any], version: str, request: dict[str, Any], variables: dict[str, str]
) -> bool:
    """All but the principal."""
    lookup = None
    if version == "2012-10-17":
        lookup = {**request["context"], **variables}
    actions = as_list(statement.get("Action", statement.get("NotAction")))
    hit = any(matches(a.lower(), request["action"].lower(), None) for a in actions)
    if hit == ("NotAction" in statement):
        return False
    texts = as_list(statement.get("Resource", statement.get("NotResource")))
    hit = any(arn_matches(t, request["resource"], lookup) for t in texts)
    if hit == ("NotResource" in statement):
        return False
    if "NotResource" in statement and statement["Effect"] == "Allow" and lookup is not None:
        for text in texts:  # our own rule where AWS does not say
            if regex(text, lookup) is None:
                return False
    for operator, keys in statement.get("Condition", {}).items():
        for key, wanted in keys.items():
            if not condition_holds(operator, key, wanted, request["context"], lookup):
                return False
    return True


def decide(  # noqa: C901 - one function, to be read from top to bottom
    request: dict[str, Any],
    caller: dict[str, str],
    *,
    identity: list[dict[str, Any]],
    session: dict[str, Any] | None,
    boundary: dict[str, Any] | None,
    resource: dict[str, Any] | None,
    variables: dict[str, str],
) -> str:
    """``allow``, ``deny_explicit`` or ``deny_implicit`` for a role session."""
    same = caller["account"] == request["account"]
    is_key = request["action"].startswith("kms:")

    def effects(document: dict[str, Any] | None, extra: dict[str, str]) -> set[str]:
        if document is None:
            return {"Allow"}
        version = document.get("Version", "2008-10-17")
        return {s["Effect"] for s in document["Statement"] if applies(s, version, request, extra)}

    said = [effects(document, {}) for document in identity]
    limits = [effects(boundary, {}), effects(session, variables)]
    granted: set[str] = set()
    denied = any("Deny" in found for found in [*said, *limits])
    for statement in resource["Statement"] if resource else []:
        if not applies(statement, resource.get("Version", "2008-10-17"), request, {}):
            continue
        if "NotPrincipal" in statement:
            listed = names(statement["NotPrincipal"], caller)
            if statement["Effect"] == "Deny":
                spared = "everybody" in listed or {"session", "role", "account"} <= listed
                denied = denied or boundary is not None or not spared
            elif not listed:
                granted.add("everybody")
            continue
        listed = names(statement["Principal"], caller)
        if statement["Effect"] == "Deny":
            denied = denied or bool(listed)
        else:
            granted |= listed
    if denied:
        return "deny_explicit"
    by_identity = any("Allow" in found for found in said)
    limited = all("Allow" in found for found in limits)
    if not same:
        ok = bool(granted) and by_identity and limited
    elif granted & {"session", "everybody"}:
        ok = True
    elif "role" in granted:
        ok = limited
    else:
        ok = by_identity and limited and (not is_key or "account" in granted)
    return "allow" if ok else "deny_implicit"
