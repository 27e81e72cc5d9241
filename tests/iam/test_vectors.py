"""What AWS's pages say a policy comes to: tests/vectors/iam.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from feedgate.iam.evaluate import PolicySet, Principal, Request, evaluate
from feedgate.iam.policy import Policy, parse_policy

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "iam.json").read_text())["vectors"]
ACCOUNT = "111122223333"
SESSION = Principal(
    "role_session",
    ACCOUNT,
    f"arn:aws:iam::{ACCOUNT}:role/R",
    f"arn:aws:sts::{ACCOUNT}:assumed-role/R/S",
)
CASES = [
    pytest.param(vector, request, id=f"{vector['name']} #{number}")
    for vector in VECTORS
    for number, request in enumerate(vector["requests"])
]


def _policy(vector: dict[str, Any], element: str, kind: str) -> Policy | None:
    return parse_policy(vector[element], kind=kind, name=element) if element in vector else None


def _policies(vector: dict[str, Any]) -> PolicySet:
    return PolicySet(
        identity=tuple(
            parse_policy(document, kind="identity", name=f"identity{number}")
            for number, document in enumerate(vector.get("identity", ()))
        ),
        session=_policy(vector, "session", "session"),
        boundary=_policy(vector, "boundary", "boundary"),
        resource=_policy(vector, "resource", vector.get("resource_kind", "bucket")),
        variables=vector.get("variables", {}),
    )


@pytest.mark.parametrize(("vector", "asked"), CASES)
def test_documented_policy_decides_as_documented(
    vector: dict[str, Any], asked: dict[str, Any]
) -> None:
    """A policy that AWS documents decides as its page says."""
    principal = Principal(**vector["principal"]) if "principal" in vector else SESSION
    account = asked["resource"].split(":")[4] or ACCOUNT
    request = Request(
        principal, asked["action"], asked["resource"], account, asked.get("context", {})
    )
    decision = evaluate(request, _policies(vector))
    assert decision.effect.value == asked["expect"], f"{vector['page']}: {decision.reason()}"
    if "silent" in asked:
        assert list(decision.silent) == asked["silent"]


def test_vectors_name_their_page() -> None:
    """Every vector says where AWS states it."""
    assert len(VECTORS) > 80
    assert all(vector["page"] and vector["from"] in ("example", "rule") for vector in VECTORS)
