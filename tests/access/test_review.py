"""What policies ask for in vain is told before anyone wonders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from feedgate.access.review import policy_findings


def test_reference_policies_ask_for_nothing_in_vain(site: Any) -> None:
    """The reference stack is quiet, but for a bucket policy without statements."""
    stack = replace(site.stack(), users={"bob": site.user()})
    assert [finding.message for finding in policy_findings(stack)] == [
        "policy `LandingBucket`: the policy has no statement"
    ]


def test_keys_that_no_request_has_are_named(site: Any) -> None:
    """A condition on the client's address is told to see none."""
    address = {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}, "Null": {"aws:Unheard": "true"}}
    site.role = ({**site.role[0], "Condition": address}, *site.role[1:])
    site.session = (
        {**site.session[0], "Condition": {"StringEquals": {"aws:SourceVpce": "vpce-1"}}},
    )
    site.key_policy = ({**site.key_policy[0], "Condition": {"Bool": {"aws:ViaAWSService": True}}},)
    stack = replace(site.stack(), users={"bob": site.user()})
    found = [finding for finding in policy_findings(stack) if finding.rule == "context-key"]
    assert [
        (finding.resource, finding.message.split(" asks for `")[1].split("`")[0])
        for finding in found
    ] == [
        ("TransferRole", "aws:sourceip"),
        ("TransferRole", "aws:unheard"),
        ("UserBob", "aws:sourcevpce"),
    ]
    assert "never the SFTP client's address" in found[0].message
    assert all(finding.severity == "warning" for finding in found)
