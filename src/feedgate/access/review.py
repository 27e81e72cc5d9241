"""What policies ask for that no local request says, and what they hold that has no effect.

For ``check``: none of this is a fault, all of it surprises.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from feedgate.access.contexts import FILLED_KEYS
from feedgate.access.principals import session_policy
from feedgate.errors import DefinitionError, Finding, Source
from feedgate.iam.policy import Policy
from feedgate.stack.resources import Stack

__all__ = ["policy_findings"]

_WHY: Final = {
    "aws:sourceip": "on AWS it is never the SFTP client's address, so here it is left out",
}
_OPEN_ENDED: Final = ("aws:principaltag/", "transfer:", "kms:encryptioncontext:")


def policy_findings(stack: Stack) -> list[Finding]:
    """A warning for each context key that is always absent, and for each policy's remarks."""
    found: list[Finding] = []
    for policy, logical_id, source in _policies(stack):
        # a user's name is the finding's resource: the policy is often one for all of them
        name = "the session policy" if policy.kind == "session" else f"policy `{policy.name}`"
        for key in sorted(policy.keys - FILLED_KEYS):
            if key.startswith(_OPEN_ENDED):
                continue
            why = _WHY.get(key, "a condition on it sees an absent key")
            found.append(
                Finding(
                    "warning",
                    f"{name} asks for `{key}`, which no request has here: {why}",
                    source=source,
                    resource=logical_id,
                    rule="context-key",
                )
            )
        found.extend(
            Finding(
                "warning",
                f"{name}: {remark}",
                source=source,
                resource=logical_id,
                rule="policy",
            )
            for remark in policy.remarks
        )
    return found


def _policies(stack: Stack) -> Iterator[tuple[Policy, str, Source | None]]:
    for role in stack.roles.values():
        for policy in (role.trust, *role.policies):
            yield policy, role.logical_id, role.source
    for key in stack.kms_keys.values():
        yield key.policy, key.logical_id, key.source
    for bucket in stack.buckets.values():
        if bucket.policy is not None:
            yield bucket.policy, bucket.logical_id, bucket.source
    texts = {text.logical_id: text.source for text in stack.policy_texts}
    for user in stack.users.values():
        try:
            session = session_policy(user)
        except DefinitionError:
            continue  # reported where the stack is built
        if session is not None:
            yield session, user.logical_id, texts.get(user.logical_id, user.source)
