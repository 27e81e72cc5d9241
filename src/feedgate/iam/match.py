"""Does a statement's Action, Resource or Principal element cover the request?

Source: IAM User Guide, reference_policies_elements_{action,notaction,resource,notresource,
principal,notprincipal}.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal

from feedgate.iam.pattern import ArnPattern, Lookup, PatternError, TextPattern

__all__ = [
    "ActionSet",
    "Grant",
    "Principal",
    "PrincipalKind",
    "PrincipalSet",
    "ResourceSet",
    "parse_principal",
]

PrincipalKind = Literal["role_session", "role", "user", "root", "service", "anonymous"]

_ACTION: Final = re.compile(r"[A-Za-z0-9*?-]+:[A-Za-z0-9*?]+")
_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_PRINCIPAL_ARN: Final = re.compile(
    r"arn:aws[a-z-]*:(?:"
    r"iam::[0-9]{12}:(?:role|user)/[\x21-\x7e]+"
    r"|sts::[0-9]{12}:(?:assumed-role/[\w+=,.@-]+/[\w+=,.@-]+|federated-user/[\w+=,.@-]+))",
    re.ASCII,
)
_ROOT_ARN: Final = re.compile(r"arn:aws[a-z-]*:iam::([0-9]{12}):root")
_SERVICE: Final = re.compile(r"[a-z0-9.-]+\.(?:amazonaws\.com(?:\.cn)?|amazon\.com|aws\.internal)")


class Grant(IntEnum):
    """How directly a resource policy names a principal (IAM, evaluation logic and Principal).

    The more directly, the more an Allow suffices alone within one account: ``ACCOUNT`` only
    delegates to identity policies, ``ROLE`` stands in for them, ``DIRECT`` needs neither boundary
    nor session policy.
    """

    NONE = 0
    ACCOUNT = 1
    ROLE = 2
    DIRECT = 3


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. ``arn`` is the role's for a role session, whose own is ``session_arn``."""

    kind: PrincipalKind
    account: str = ""
    arn: str = ""
    session_arn: str | None = None
    service: str | None = None


class ActionSet:
    """Action or NotAction. Whole names, without regard to case, ``*`` and ``?``."""

    __slots__ = ("_exact", "_patterns", "negated", "texts")

    def __init__(self, texts: Sequence[str], *, negated: bool) -> None:
        """Raises ``PatternError`` for what is not ``*`` or ``service:Name``."""
        self.texts = tuple(texts)
        self.negated = negated
        exact: set[str] = set()
        patterns: list[TextPattern] = []
        for text in texts:
            if text != "*" and not _ACTION.fullmatch(text):
                raise PatternError(f"`{text}` is not `*` or `service:Name`")
            lower = text.lower()
            if "*" in lower or "?" in lower:
                patterns.append(TextPattern(lower, wildcards=True, variables=False))
            else:
                exact.add(lower)
        self._exact = frozenset(exact)
        self._patterns = tuple(patterns)

    def covers(self, action_lower: str) -> bool:
        """``action_lower`` is the request's action in lower case."""
        if action_lower in self._exact:
            return not self.negated
        for pattern in self._patterns:
            if pattern.matches(action_lower, _no_variables):
                return not self.negated
        return self.negated


class ResourceSet:
    """Resource or NotResource. Case-sensitive; ``*`` in the last segment spans ``/`` and ``:``."""

    __slots__ = ("_everything", "_patterns", "_refuse_unresolved", "negated", "texts", "variables")

    def __init__(
        self, texts: Sequence[str], *, negated: bool, variables: bool, allows: bool
    ) -> None:
        """Raises ``PatternError``.

        In an Allow with NotResource (``allows``) an entry whose variable has no value makes the
        statement match nothing. AWS does not say; read literally, the entry would spare no
        resource and the statement would allow all of them.
        """
        self.texts = tuple(texts)
        self.negated = negated
        self._everything = "*" in texts
        self._refuse_unresolved = negated and allows
        patterns = []
        for text in texts:
            if text == "*":
                continue
            _check_resource(text, variables=variables)
            patterns.append(ArnPattern(text, variables=variables))
        self._patterns = tuple(patterns)
        self.variables = frozenset(name for pattern in patterns for name in pattern.variables)

    def covers(self, arn: str, lookup: Lookup) -> bool:
        """Whether the element covers this concrete ARN."""
        if self._everything:
            return not self.negated
        for pattern in self._patterns:
            if pattern.matches(arn, lookup):
                return not self.negated
        if self._refuse_unresolved:
            return all(pattern.resolves(lookup) for pattern in self._patterns)
        return self.negated

    def unresolved(self, lookup: Lookup) -> tuple[str, ...]:
        """The entries that cover nothing because a variable in them has no value."""
        return tuple(pattern.text for pattern in self._patterns if not pattern.resolves(lookup))


@dataclass(frozen=True, slots=True)
class PrincipalSet:
    """Principal or NotPrincipal, read. Exact names only: IAM knows no partial wildcards there."""

    everyone: bool = False
    accounts: frozenset[str] = frozenset()
    arns: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    negated: bool = False

    def grants(self, principal: Principal) -> Grant:
        """How an Allow with this element names the principal."""
        if not self.negated:
            return self._named(principal)
        spared = self.everyone or self._named(principal) is not Grant.NONE
        return Grant.NONE if spared else Grant.DIRECT

    def hits(self, principal: Principal, *, bounded: bool) -> bool:
        """Whether a Deny with this element applies to the principal.

        ``bounded``: it has a permissions boundary; then NotPrincipal spares nobody.
        """
        if not self.negated:
            return self.everyone or self._named(principal) is not Grant.NONE
        if bounded:
            return True
        return not (self.everyone or self._spares(principal))

    def _named(self, principal: Principal) -> Grant:  # noqa: PLR0911 - a table of kinds
        kind = principal.kind
        if kind == "service":
            named = principal.service in self.services
            return Grant.DIRECT if named else Grant.NONE
        if self.everyone:
            return Grant.DIRECT
        if kind == "anonymous":
            return Grant.NONE
        if principal.session_arn is not None and principal.session_arn in self.arns:
            return Grant.DIRECT
        if principal.arn in self.arns:
            return Grant.DIRECT if kind == "user" else Grant.ROLE
        if principal.account in self.accounts:
            return Grant.DIRECT if kind == "root" else Grant.ACCOUNT
        return Grant.NONE

    def _spares(self, principal: Principal) -> bool:
        """A session is spared only where itself, its role and its account are all listed."""
        kind = principal.kind
        if kind == "service":
            return principal.service in self.services
        if kind == "anonymous" or principal.account not in self.accounts:
            return False
        if kind == "root":
            return True
        if principal.session_arn is not None and principal.session_arn not in self.arns:
            return False
        return principal.arn in self.arns


def parse_principal(
    element: object, *, negated: bool, problems: list[str], where: str
) -> PrincipalSet:
    """Read a Principal or NotPrincipal element, adding each fault to ``problems``."""
    name = "NotPrincipal" if negated else "Principal"
    if element == "*":
        return PrincipalSet(everyone=True, negated=negated)
    if not isinstance(element, Mapping) or not element:
        problems.append(f'{where}: {name} must be `"*"` or an object such as {{"AWS": …}}')
        return PrincipalSet(negated=negated)
    everyone = False
    accounts: set[str] = set()
    arns: set[str] = set()
    services: set[str] = set()
    for kind, value in element.items():
        for text in _texts(value, f"{where}: {name}.{kind}", problems):
            if kind == "AWS" and text == "*":
                everyone = True
            elif kind == "AWS" and (account := _account(text)):
                accounts.add(account)
            elif kind == "AWS" and _PRINCIPAL_ARN.fullmatch(text) and not _has_wildcard(text):
                arns.add(text)
            elif kind == "Service" and _SERVICE.fullmatch(text):
                services.add(text)
            elif kind == "Federated" and text and not _has_wildcard(text):
                pass  # a web or SAML identity is never who asks here, so it names nobody
            else:
                problems.append(f"{where}: {name}.{kind}: {_principal_fault(kind, text)}")
    return PrincipalSet(
        everyone, frozenset(accounts), frozenset(arns), frozenset(services), negated
    )


def _account(text: str) -> str | None:
    if _ACCOUNT.fullmatch(text):
        return text
    root = _ROOT_ARN.fullmatch(text)
    return root[1] if root else None


def _has_wildcard(text: str) -> bool:
    return "*" in text or "?" in text


def _principal_fault(kind: str, text: str) -> str:
    if kind == "CanonicalUser":
        return "canonical user ids are not done here; name the account"
    if kind not in ("AWS", "Service", "Federated"):
        return "unknown kind of principal"
    if _has_wildcard(text):
        return f"`{text}`: a principal is `*` or one exact name, without wildcards inside"
    return f"`{text}` is not a principal that feedgate understands"


def _texts(value: object, where: str, problems: list[str]) -> Iterable[str]:
    values = value if isinstance(value, list | tuple) else [value]
    if not values:
        problems.append(f"{where}: the list is empty")
    texts = [text for text in values if isinstance(text, str)]
    if len(texts) != len(values):
        problems.append(f"{where}: must be a string or a list of strings")
    return texts


def _check_resource(text: str, *, variables: bool) -> None:
    parts = text.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn":
        raise PatternError(f"`{text}` is not `*` or an ARN of six parts")
    if variables and any("${" in part for part in parts[:5]):
        raise PatternError(f"`{text}`: variables stand only after the fifth colon")
    if _has_wildcard(parts[2]) or not parts[2]:
        raise PatternError(f"`{text}`: the service is named without wildcards")


def _no_variables(_name: str) -> None:
    return None
