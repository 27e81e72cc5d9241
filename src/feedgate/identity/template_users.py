"""The users that a template names: their names and SSH keys, each checked. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from feedgate.errors import DefinitionError, Finding, UsageError
from feedgate.identity.users import USER_NAME_PATTERN, SshPublicKey, parse_public_key
from feedgate.stack.resources import User

__all__ = ["name_problem", "parse_template_users"]


def name_problem(user_name: str) -> str | None:
    """AWS Transfer's rule for user names (API CreateUser; User Guide, create-user)."""
    if USER_NAME_PATTERN.fullmatch(user_name) and user_name != "root":
        return None
    return (
        f"user name `{user_name}` is not 3 to 100 letters, digits, `_`, `@`, `.` or `-`,"
        " the first a letter, digit or `_`, and not `root`"
    )


def parse_template_users(users: Mapping[str, User]) -> dict[str, dict[str, SshPublicKey]]:
    """The SSH keys of each user by fingerprint. Raises ``DefinitionError`` with every fault."""
    findings: list[Finding] = []
    parsed: dict[str, dict[str, SshPublicKey]] = {}
    for name, user in users.items():
        assert name == user.user_name
        problems = [name_problem(name)]
        keys: dict[str, SshPublicKey] = {}
        for text in user.ssh_public_keys:
            try:
                key = parse_public_key(text)
            except UsageError as error:
                problems.append(f"SSH key of user `{name}`: {error.message}")
            else:
                keys[key.fingerprint] = key
        parsed[name] = keys
        findings.extend(
            Finding("error", problem, source=user.source, resource=user.logical_id)
            for problem in problems
            if problem
        )
    if findings:
        raise DefinitionError(findings)
    return parsed
