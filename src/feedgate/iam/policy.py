"""Policy documents: JSON in, compiled statements out, or every fault at once.

Refused is what AWS refuses, and what AWS takes and this evaluator does not understand: a statement
that were dropped in silence might have been a Deny. Elements are compiled here once, so that a
decision only runs them.

Source: IAM User Guide, reference_policies_grammar and the pages of the elements; quotas page
reference_iam-quotas; KMS Developer Guide, key-policy-overview.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from feedgate.iam.condition import Test, parse_conditions
from feedgate.iam.match import ActionSet, PrincipalSet, ResourceSet, parse_principal
from feedgate.iam.pattern import PatternError
from feedgate.limits import POLICY_CHARS_MAX

__all__ = ["Policy", "PolicyError", "PolicyKind", "Statement", "StatementMatch", "parse_policy"]

PolicyKind = Literal["identity", "session", "boundary", "bucket", "kms", "trust"]

_VERSIONS: Final = ("2012-10-17", "2008-10-17")
_TOP: Final = ("Version", "Id", "Statement")
_ELEMENTS: Final = (
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
)
_SID: Final = {
    True: re.compile(r"[A-Za-z0-9]*"),  # IAM
    False: re.compile(r"[\x20-\x7e]*"),  # S3 and KMS take spaces
}
_ILLEGAL_CHAR: Final = re.compile("[^\t\n\r\x20-\xff]")
_RESOURCE_KINDS: Final = ("bucket", "kms", "trust")


class PolicyError(ValueError):
    """The document cannot be used. ``problems`` lists every fault, one line each."""

    def __init__(self, name: str, problems: Sequence[str]) -> None:
        self.name = name
        self.problems = tuple(problems)
        first = self.problems[0]
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        super().__init__(f"policy `{name}`: {first}{more}")


@dataclass(frozen=True, slots=True)
class StatementMatch:
    """A statement that applied. ``index`` counts from 0, as ``Statement[index]``."""

    policy: str
    kind: PolicyKind
    index: int
    sid: str | None
    effect: Literal["Allow", "Deny"]

    def __str__(self) -> str:
        label = f" ({self.sid})" if self.sid else ""
        return f"{self.policy}: Statement[{self.index}]{label}"


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """One compiled statement.

    ``resources`` None: a trust policy's, or a key policy's without Resource, which KMS takes and
    which has no effect (``is_inert``). ``document`` is the statement as written.
    """

    match: StatementMatch
    allows: bool
    actions: ActionSet
    resources: ResourceSet | None
    principals: PrincipalSet | None
    conditions: tuple[Test, ...]
    document: Mapping[str, Any]
    is_inert: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """A parsed policy document. Two are equal when name, kind and text are.

    ``remarks`` are legal and probably not meant. ``keys`` are the context keys that conditions and
    variables ask for, in lower case.
    """

    kind: PolicyKind
    name: str
    version: str
    text: str
    statements: tuple[Statement, ...] = field(compare=False, repr=False)
    remarks: tuple[str, ...] = field(compare=False, repr=False, default=())
    keys: frozenset[str] = field(compare=False, repr=False, default=frozenset())


def parse_policy(document: Mapping[str, Any] | str, *, kind: PolicyKind, name: str) -> Policy:
    """Read and compile a policy.

    ``document`` is JSON text, or the object that a rendered template holds. ``name`` is what
    decisions call it.

    Raises:
        PolicyError: with every fault: what AWS refuses and what is not understood here.
    """
    problems: list[str] = []
    tree = _load(document, problems) if isinstance(document, str) else document
    if problems:
        raise PolicyError(name, problems)
    if not isinstance(tree, Mapping):
        raise PolicyError(name, ["a policy is a JSON object"])
    try:
        text = json.dumps(tree, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise PolicyError(name, [f"not JSON: {error}"]) from error
    tree = json.loads(text)  # plain types only, whatever the template's tree was made of
    _check_size(document if isinstance(document, str) else text, kind, problems)
    if kind != "bucket" and (found := _ILLEGAL_CHAR.search(text)):
        problems.append(f"U+{ord(found[0]):04X} is outside the characters that a policy may hold")
    problems += [f"unknown element `{element}`" for element in tree if element not in _TOP]
    version = tree.get("Version", _VERSIONS[1])
    if version not in _VERSIONS:
        problems.append(f"Version must be {' or '.join(_VERSIONS)}")
    reader = _Reader(kind, name, variables=version == _VERSIONS[0], problems=problems)
    statements = reader.statements(tree)
    if problems:
        raise PolicyError(name, problems)
    return Policy(
        kind=kind,
        name=name,
        version=version,
        text=text,
        statements=statements,
        remarks=tuple(reader.remarks),
        keys=frozenset(key for statement in statements for key in _keys(statement)),
    )


def _keys(statement: Statement) -> set[str]:
    keys: set[str] = set(statement.resources.variables) if statement.resources else set()
    for test in statement.conditions:
        keys.add(test.key)
        keys |= test.variables
    return keys


# -- text ---------------------------------------------------------------------------------------


def _load(text: str, problems: list[str]) -> object:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            seen: set[str] = set()
            for key, _value in pairs:
                if key in seen:
                    problems.append(f"`{key}` is given twice in one object")
                seen.add(key)
        return made

    def constant(word: str) -> None:
        problems.append(f"`{word}` is not JSON")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=constant)
    except json.JSONDecodeError as error:
        problems.append(
            f"not JSON: {error.msg.lower()} at line {error.lineno}, column {error.colno}"
        )
    except (RecursionError, ValueError):  # ValueError: an integer of too many digits
        problems.append("not JSON that a policy may be: too deep or too large")
    return None


def _check_size(text: str, kind: PolicyKind, problems: list[str]) -> None:
    """AWS counts a session policy as it stands, IAM's others without white space, S3's in bytes."""
    bound = POLICY_CHARS_MAX[kind]
    if kind in ("bucket", "kms"):
        size, unit = len(text.encode("utf-8", "surrogatepass")), "bytes"
    elif kind == "session":
        size, unit = len(text), "characters"
    else:
        size, unit = len("".join(text.split())), "characters without white space"
    if size > bound:
        problems.append(f"the policy has {size:,} {unit}, AWS takes {bound:,}")


# -- statements ---------------------------------------------------------------------------------


class _Reader:
    """Reads the statements of one policy, gathering faults and remarks."""

    def __init__(
        self, kind: PolicyKind, name: str, *, variables: bool, problems: list[str]
    ) -> None:
        self.kind: PolicyKind = kind
        self.name = name
        self.variables = variables
        self.problems = problems
        self.remarks: list[str] = []
        self._sids: set[str] = set()

    def statements(self, tree: Mapping[str, Any]) -> tuple[Statement, ...]:
        if "Statement" not in tree:
            self.problems.append("Statement is missing")
            return ()
        raw = tree["Statement"]
        items = raw if isinstance(raw, list | tuple) else [raw]
        if not items:
            self.remarks.append("the policy has no statement")
        read = []
        for index, item in enumerate(items):
            where = f"Statement[{index}]"
            if not isinstance(item, Mapping):
                self.problems.append(f"{where}: a statement is an object")
                continue
            read.append(self._statement(item, index, where))
        return tuple(statement for statement in read if statement is not None)

    def _statement(self, item: Mapping[str, Any], index: int, where: str) -> Statement | None:
        before = len(self.problems)
        for element in item:
            if element not in _ELEMENTS:
                self.problems.append(f"{where}: unknown element `{element}`")
        sid = self._sid(item, where)
        effect = item.get("Effect")
        if effect not in ("Allow", "Deny"):
            self.problems.append(f"{where}: Effect must be Allow or Deny")
        actions = self._actions(item, where)
        resources = self._resources(item, where, allows=effect == "Allow")
        principals = self._principals(item, where)
        conditions: tuple[Test, ...] = ()
        if "Condition" in item:
            conditions = parse_conditions(
                item["Condition"], variables=self.variables, problems=self.problems, where=where
            )
        if not self.variables and self.kind == "session" and "${transfer:" in str(item).lower():
            self.problems.append(
                f"{where}: `${{transfer:…}}` needs Version 2012-10-17, older ones have no variables"
            )
        if len(self.problems) > before or actions is None:
            return None
        is_inert = self.kind == "kms" and resources is None
        if is_inert:
            self.remarks.append(f"{where}: without Resource it has no effect in a key policy")
        return Statement(
            match=StatementMatch(
                self.name, self.kind, index, sid, "Allow" if effect == "Allow" else "Deny"
            ),
            allows=effect == "Allow",
            actions=actions,
            resources=resources,
            principals=principals,
            conditions=conditions,
            document=item,
            is_inert=is_inert,
        )

    def _sid(self, item: Mapping[str, Any], where: str) -> str | None:
        sid = item.get("Sid")
        if sid is None:
            return None
        is_iam = self.kind not in ("bucket", "kms")
        if not isinstance(sid, str) or not _SID[is_iam].fullmatch(sid):
            allowed = "letters and digits" if is_iam else "printable ASCII"
            self.problems.append(f"{where}: Sid must be {allowed}")
            return None
        if sid and sid in self._sids:
            self.problems.append(f"{where}: Sid `{sid}` is given twice")
        self._sids.add(sid)
        return sid or None

    def _one_of(self, item: Mapping[str, Any], name: str, where: str) -> str | None:
        """Which of ``Name`` and ``NotName`` the statement has."""
        present = [element for element in (name, f"Not{name}") if element in item]
        if len(present) == 2:
            self.problems.append(f"{where}: {name} and Not{name} exclude each other")
        return present[0] if present else None

    def _texts(self, item: Mapping[str, Any], element: str, where: str) -> list[str] | None:
        raw = item[element]
        values = raw if isinstance(raw, list | tuple) else [raw]
        if not values:
            self.problems.append(f"{where}: {element}: the list is empty")
            return None
        if not all(isinstance(value, str) for value in values):
            self.problems.append(f"{where}: {element} must be a string or a list of strings")
            return None
        return list(values)

    def _actions(self, item: Mapping[str, Any], where: str) -> ActionSet | None:
        element = self._one_of(item, "Action", where)
        if element is None:
            self.problems.append(f"{where}: Action is missing")
            return None
        texts = self._texts(item, element, where)
        if texts is None:
            return None
        if self.kind == "trust":
            odd = [text for text in texts if not text.lower().startswith("sts:")]
            self.problems += [f"{where}: {element}: `{text}` is no action of sts" for text in odd]
        self._check_each(texts, lambda text: ActionSet([text], negated=False), element, where)
        try:
            return ActionSet(texts, negated=element == "NotAction")
        except PatternError:
            return None

    def _resources(
        self, item: Mapping[str, Any], where: str, *, allows: bool
    ) -> ResourceSet | None:
        element = self._one_of(item, "Resource", where)
        if self.kind == "trust":
            if element is not None:
                self.problems.append(f"{where}: a trust policy has no {element}")
            return None
        if element is None:
            if self.kind != "kms":
                self.problems.append(f"{where}: Resource is missing")
            return None
        texts = self._texts(item, element, where)
        if texts is None:
            return None

        def compile_one(text: str) -> ResourceSet:
            return ResourceSet([text], negated=False, variables=self.variables, allows=allows)

        self._check_each(texts, compile_one, element, where)
        try:
            return ResourceSet(
                texts, negated=element == "NotResource", variables=self.variables, allows=allows
            )
        except PatternError:
            return None

    def _check_each(self, texts: list[str], compile_one: Any, element: str, where: str) -> None:
        for text in texts:
            try:
                compile_one(text)
            except PatternError as error:
                self.problems.append(f"{where}: {element}: {error}")

    def _principals(self, item: Mapping[str, Any], where: str) -> PrincipalSet | None:
        element = self._one_of(item, "Principal", where)
        if self.kind not in _RESOURCE_KINDS:
            if element is not None:
                article = "an" if self.kind == "identity" else "a"
                self.problems.append(f"{where}: {article} {self.kind} policy has no {element}")
            return None
        if element is None:
            self.problems.append(f"{where}: Principal is missing")
            return None
        negated = element == "NotPrincipal"
        if negated and self.kind == "trust":
            self.problems.append(f"{where}: a trust policy has no NotPrincipal")
        return parse_principal(item[element], negated=negated, problems=self.problems, where=where)
