"""The server and its users out of resolved properties, with AWS Transfer's rules.

Sources: the API reference of CreateUser and CreateServer, and the User Guide's pages on logical
directories. A fault that AWS would show as a failed login is found here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, cast

from feedgate import limits
from feedgate.stack.access_tags import access_tag_faults
from feedgate.stack.limit_tags import limit_tag_faults
from feedgate.stack.node import Node
from feedgate.stack.properties import OWN_SECURITY_POLICIES
from feedgate.stack.resources import Bucket, HomeDirectoryMapping, Server, User

__all__ = ["build_server", "build_users", "mapping_faults"]

_USER_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_@.-]{2,99}")
_MAPPING_CHARS_MAX: Final = 1_024  # botocore transfer/2018-11-05, MapEntry and MapTarget
_KEY_BODY_CHARS_MAX: Final = 2_048  # the same model, SshPublicKeyBody
_VARIABLE: Final = re.compile(r"\$\{([^}]*)\}")


def build_server(nodes: Sequence[Node]) -> Server | None:
    """Return the one server; each further one is a fault at its place."""
    for node in nodes[1:]:
        node.fault("a stack has one server here", hint="run a second gateway for a second server")
    if not nodes:
        return None
    node = nodes[0]
    details = node.member("ProtocolDetails")
    option = details.text("SetStatOption", "DEFAULT") if details else "DEFAULT"
    if details and option not in ("DEFAULT", "ENABLE_NO_OP"):
        details.fault(f"`SetStatOption` is `{option}`: no such option", "SetStatOption")
    _check_security_policy(node)
    tags = _access_tags(node, of_user=False)
    return Server(
        logical_id=node.logical_id,
        server_id=node.attribute("ServerId"),
        arn=node.attribute("Arn"),
        security_policy_name=node.text("SecurityPolicyName", OWN_SECURITY_POLICIES[0]),
        identity_provider_type="SERVICE_MANAGED",
        structured_log_destinations=tuple(node.texts("StructuredLogDestinations")),
        logging_role_arn=node.text("LoggingRole"),
        pre_authentication_login_banner=node.text("PreAuthenticationLoginBanner"),
        set_stat_option=cast("Literal['DEFAULT', 'ENABLE_NO_OP']", option),
        tags=tags,
        source=node.source,
    )


def _check_security_policy(node: Node) -> None:
    """Say where the algorithms here are not those that CloudFormation would give.

    https://docs.aws.amazon.com/transfer/latest/userguide/security-policies.html
    """
    name = node.text("SecurityPolicyName")
    if name is None and "SecurityPolicyName" not in node.properties:
        node.warn(
            f"no `SecurityPolicyName`: `{OWN_SECURITY_POLICIES[0]}` is served here, CloudFormation "
            "would take `TransferSecurityPolicy-2018-11`, which allows SHA-1",
            hint="name one that both have: SecurityPolicyName: TransferSecurityPolicy-2025-03",
        )
    elif name in OWN_SECURITY_POLICIES:
        node.warn(
            f"the security policy `{name}` is feedgate's own: AWS has none of that name",
            "SecurityPolicyName",
            hint="make it a Parameter: ours here, TransferSecurityPolicy-2025-03 on AWS",
        )


def build_users(
    nodes: Iterable[Node],
    server: Server | None,
    role_arns: Collection[str],
    buckets: Mapping[str, Bucket],
) -> dict[str, User]:
    """Return the users by name, each checked against the stack's server, roles and buckets."""
    found: dict[str, User] = {}
    for node in nodes:
        user = _user(node, server)
        if user is None:
            continue
        if user.user_name in found:
            node.fault(f"the user `{user.user_name}` exists twice", "UserName")
        found[user.user_name] = user
        if user.role_arn not in role_arns:
            node.fault(
                f"no role `{user.role_arn}` in this stack",
                "Role",
                hint="a user's Role is Fn::GetAtt [Role, Arn] of a role of this stack",
            )
        _check_home(node, user, buckets)
    return found


def _user(node: Node, server: Server | None) -> User | None:
    name, server_id, role = node.text("UserName"), node.text("ServerId"), node.text("Role")
    if name is not None and (not _USER_NAME.fullmatch(name) or name == "root"):
        node.fault(
            f"`{name}` is no user name: 3 to 100 letters, digits and `_@.-`, not `root`",
            "UserName",
        )
    if server_id is not None and server is not None and server_id != server.server_id:
        is_arn = server_id == server.arn
        node.fault(
            "`ServerId` is the server's ARN" if is_arn else f"no server `{server_id}` here",
            "ServerId",
            hint=f"Ref of a server is its ARN; write Fn::GetAtt [{server.logical_id}, ServerId]",
        )
    policy = _session_policy(node)
    keys = _public_keys(node)
    mappings = _mappings(node)
    kind = node.text("HomeDirectoryType", "PATH")
    tags = _access_tags(node, of_user=True)
    if name is None or role is None:
        return None
    return User(
        logical_id=node.logical_id,
        user_name=name,
        arn=node.attribute("Arn"),
        role_arn=role,
        home_directory_type="LOGICAL" if kind == "LOGICAL" else "PATH",
        home_directory=node.text("HomeDirectory", "/") or "/",
        home_directory_mappings=mappings,
        policy=policy,
        ssh_public_keys=keys,
        tags=tags,
        source=node.source,
    )


def _access_tags(node: Node, *, of_user: bool) -> dict[str, str]:
    tags = node.tags()
    for message in access_tag_faults(tags, of_user=of_user):
        node.fault(message, "Tags", hint="networks in CIDR notation, separated by spaces")
    for message in limit_tag_faults(tags, of_user=of_user):
        node.fault(message, "Tags")
    return tags


def _session_policy(node: Node) -> str | None:
    text = node.text("Policy")
    if text is None:
        return None
    if len(text) > limits.SESSION_POLICY_CHARS_MAX:
        node.fault(
            f"the session policy has {len(text)} characters, AWS takes "
            f"{limits.SESSION_POLICY_CHARS_MAX}",
            "Policy",
        )
    node.parse(text, "session", f"{node.logical_id}/Policy", "Policy")
    return text


def _public_keys(node: Node) -> tuple[str, ...]:
    keys = node.texts("SshPublicKeys")
    for index, key in enumerate(keys):
        if "PRIVATE KEY" in key:  # the text itself is never repeated
            node.fault(
                "this is a private SSH key",
                "SshPublicKeys",
                index,
                hint="make a new key pair, and give the line of its .pub file",
            )
        elif len(key) > _KEY_BODY_CHARS_MAX or len(key.split()) < 2:
            node.fault("this is no SSH public key line", "SshPublicKeys", index)
    return tuple(key.strip() for key in keys)


def _mappings(node: Node) -> tuple[HomeDirectoryMapping, ...]:
    found: list[HomeDirectoryMapping] = []
    for entry in node.objects("HomeDirectoryMappings"):
        name, target = entry.text("Entry"), entry.text("Target")
        kind = entry.text("Type", "DIRECTORY")
        if kind not in ("DIRECTORY", "FILE"):
            entry.fault(f"`{kind}` is no type of mapping: DIRECTORY or FILE", "Type")
        elif name is not None and target is not None:
            kind = cast("Literal['DIRECTORY', 'FILE']", kind)
            found.append(HomeDirectoryMapping(name, target, kind))
        else:
            missing = "Entry" if name is None else "Target"
            if missing not in entry.properties:
                entry.fault(f"a mapping needs `{missing}`")
    return tuple(found)


def _check_home(node: Node, user: User, buckets: Mapping[str, Bucket]) -> None:
    mappings, home = user.home_directory_mappings, user.home_directory
    if not home.startswith("/") or len(home) > _MAPPING_CHARS_MAX or _VARIABLE.search(home):
        node.fault(
            f"`HomeDirectory` `{home}` must begin with `/` and hold no variable", "HomeDirectory"
        )
    if user.home_directory_type == "PATH":
        if mappings:
            node.fault(
                "`HomeDirectoryMappings` need `HomeDirectoryType` `LOGICAL`",
                "HomeDirectoryMappings",
            )
        _check_bucket(node, home, buckets, "HomeDirectory")
        return
    if not mappings and not node.properties.get("HomeDirectoryMappings"):
        node.fault("`HomeDirectoryType` `LOGICAL` needs `HomeDirectoryMappings`")
    for index, message in mapping_faults(mappings):
        node.fault(message, "HomeDirectoryMappings", index)
    for index, mapping in enumerate(mappings):
        _check_bucket(node, mapping.target, buckets, "HomeDirectoryMappings", index)
    if mappings and not any(
        _is_within(home, mapping.entry) or _is_within(mapping.entry, home) for mapping in mappings
    ):
        node.fault(f"`HomeDirectory` `{home}` lies in no mapping", "HomeDirectory")


def _check_bucket(node: Node, path: str, buckets: Mapping[str, Bucket], *steps: str | int) -> None:
    name = path.lstrip("/").partition("/")[0]
    if name and not _VARIABLE.search(name) and name not in buckets:
        node.fault(
            f"no bucket `{name}` in this stack",
            *steps,
            hint="`--physical-id LogicalId=NAME` lets a bucket of this stack answer to that name",
        )


def mapping_faults(mappings: Sequence[HomeDirectoryMapping]) -> Iterator[tuple[int, str]]:
    """Yield (index, message) for each LOGICAL mapping that AWS Transfer would refuse.

    https://docs.aws.amazon.com/transfer/latest/userguide/logical-dir-mappings.html
    """
    if len(mappings) > limits.HOME_MAPPINGS_MAX:
        yield limits.HOME_MAPPINGS_MAX, f"more than {limits.HOME_MAPPINGS_MAX} mappings"
        return
    taken: dict[str, int] = {}
    for index, mapping in enumerate(mappings):
        entry, target = mapping.entry, mapping.target
        if entry != "/" and _is_odd(entry):
            yield index, f"`Entry` `{entry}` must begin with `/`, not end with it, and be plain"
        if _is_odd(target):
            yield index, f"`Target` `{target}` must begin with `/`, not end with it, and be plain"
        unknown = {name for name in _VARIABLE.findall(target) if not _is_user_name(name)}
        for name in sorted(unknown | set(_VARIABLE.findall(entry))):
            yield index, f"`${{{name}}}` has no value in a mapping: a Target has transfer:UserName"
        if entry in taken:
            yield index, f"`Entry` `{entry}` is mapped twice"
        taken[entry] = index
    if "/" in taken and len(taken) > 1:
        yield taken["/"], "`Entry` `/` must be the only mapping"
        return
    for entry, index in taken.items():
        parts = entry.split("/")
        for length in range(2, len(parts)):
            outer = "/".join(parts[:length])
            if outer in taken:
                yield index, f"`Entry` `{entry}` overlaps `{outer}`"


def _is_user_name(variable: str) -> bool:
    return variable.lower() == "transfer:username"


def _is_odd(path: str) -> bool:
    """Not of the form ``/name[/name…]``."""
    first, *parts = path.split("/")
    return (
        first != ""
        or not parts
        or len(path) > _MAPPING_CHARS_MAX
        or any(part in ("", ".", "..") or not part.isprintable() for part in parts)
    )


def _is_within(path: str, outer: str) -> bool:
    return path == outer or path.startswith(outer.rstrip("/") + "/")
