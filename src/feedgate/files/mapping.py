"""Where a supplier's path lies: path bytes → virtual level, or bucket and key. Pure.

This is the only path arithmetic of the product, so there is one place to attack and one to fuzz.
A path is read once, lexically, into components; from then on components are compared, never
strings, so ``/share`` cannot match ``/share-secret``. ``posixpath.normpath`` is not used: it keeps
two leading slashes, which has let clients out of other servers.

Rules are AWS Transfer's (User Guide, logical-dir-mappings and implement-log-dirs; facts of the API
model): ``Entry`` ``/`` stands alone, entries do not overlap, ``Target`` is ``/bucket[/prefix]``,
levels above an entry are virtual and refuse uploads, ``${transfer:UserName}`` is the only variable
of a LOGICAL target. A PATH user sees ``/bucket/key`` as it is; HomeDirectory is only where the
session starts, and policies alone hold the user in.

Invariant: the key of a ``Mapped`` starts with its mapping's prefix, component by component, and has
no empty, ``.`` or ``..`` component.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from feedgate.errors import DefinitionError, Finding, NotFound, UsageError
from feedgate.limits import HOME_MAPPINGS_MAX, OBJECT_KEY_BYTES_MAX, SFTP_PATH_BYTES_MAX
from feedgate.stack.resources import HomeDirectoryMapping, User

__all__ = ["HomeMapping", "Mapped", "Resolved", "Virtual", "child_name", "normalise"]

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_ENTRY_CHARS_MAX = 1_024  # botocore transfer/2018-11-05, MapEntry and MapTarget

Components: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mapped:
    """A path that lies in a bucket.

    ``path`` is the supplier's, normalised. ``key`` never starts or ends with ``/``; it is empty
    only for a bucket's root. ``is_root`` is the place an entry points at, or one on the way to the
    session's start: it always exists and can be neither removed nor written as a file, unless
    ``is_file``: the mapping is of Type FILE.
    """

    path: str
    bucket: str
    key: str
    is_root: bool = False
    is_file: bool = False

    @property
    def prefix(self) -> str:
        """The prefix of the keys below, when this is taken for a directory."""
        return f"{self.key}/" if self.key else ""

    @property
    def s3_path(self) -> str:
        """``/bucket/key``, the form that AWS Transfer's logs use."""
        return f"/{self.bucket}/{self.key}" if self.key else f"/{self.bucket}"


@dataclass(frozen=True, slots=True)
class Virtual:
    """A level above the entries: its children by name, in the order of their UTF-8 bytes."""

    path: str
    children: Mapping[str, Virtual | Mapped]


Resolved: TypeAlias = Virtual | Mapped


@dataclass(frozen=True, slots=True)
class HomeMapping:
    """What one user's paths mean. Made once per session by ``of``.

    ``start`` is where a session begins and what relative paths hang on. ``tree`` holds the levels
    of a LOGICAL user; for a PATH user it is the one virtual level above the buckets.
    """

    start: Components
    tree: Resolved
    bucket_rooted: bool = False

    @classmethod
    def of(cls, user: User) -> HomeMapping:
        """Read a user's HomeDirectory properties.

        Raises:
            DefinitionError: with every fault of the mappings.
        """
        if user.home_directory_type == "PATH":
            return _path_home(user)
        return _logical_home(user)

    def normalise(self, path: bytes) -> str:
        """REALPATH: the absolute form of a path, by its letters alone; nothing is looked up.

        Raises:
            UsageError: the path is not UTF-8, holds a NUL, or is too long.
        """
        return _joined(normalise(path, self.start))

    def resolve(self, path: bytes) -> Resolved:
        """Where a path lies.

        Raises:
            NotFound: no entry covers it.
            UsageError: the path is not UTF-8, holds a NUL, or is too long for a key.
        """
        components = normalise(path, self.start)
        found = _find(self.tree, components, bucket_rooted=self.bucket_rooted)
        leads_to_start = components == self.start[: len(components)]
        if leads_to_start and isinstance(found, Mapped) and not found.is_root:
            return replace(found, is_root=True)
        return found


def normalise(path: bytes, start: Components = ()) -> Components:
    """Components of a path: ``//``, ``.`` and ``..`` resolved by their letters.

    A relative path hangs on ``start``; ``..`` above the root stays at the root.

    Raises:
        UsageError: the path is not UTF-8, holds a NUL, or is too long.
    """
    if len(path) > SFTP_PATH_BYTES_MAX:
        raise UsageError(f"the path is longer than {SFTP_PATH_BYTES_MAX} bytes")
    if b"\0" in path:
        raise UsageError("the path holds a NUL byte")
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError("the path is not UTF-8") from error
    components = [] if text.startswith("/") else list(start)
    for component in text.split("/"):
        if component == "..":
            del components[-1:]
        elif component not in ("", "."):
            components.append(component)
    return tuple(components)


def child_name(prefix: str, key: str) -> bytes | None:
    """The name under which a key or common prefix appears in the directory of ``prefix``.

    None for what no path can reach: the directory's own marker, and the empty, ``.`` and ``..``
    names that other tools can make in a bucket.
    """
    name = key[len(prefix) :].removesuffix("/")
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        return None
    return name.encode("utf-8")


def _find(tree: Resolved, components: Components, *, bucket_rooted: bool = False) -> Resolved:
    node = tree
    for depth, component in enumerate(components):
        if isinstance(node, Mapped):
            return _below(node, components, depth)
        child = node.children.get(component)
        if child is None and bucket_rooted:
            child = Mapped(path=f"/{component}", bucket=component, key="", is_root=True)
        if child is None:
            raise _not_found(components)
        node = child
    return node


def _below(root: Mapped, components: Components, depth: int) -> Mapped:
    if root.is_file:
        raise _not_found(components)
    key = root.prefix + "/".join(components[depth:])
    if len(key.encode("utf-8")) > OBJECT_KEY_BYTES_MAX:
        raise UsageError(f"the object's key would be longer than {OBJECT_KEY_BYTES_MAX} bytes")
    return Mapped(path=_joined(components), bucket=root.bucket, key=key)


def _joined(components: Iterable[str]) -> str:
    return "/" + "/".join(components)


def _not_found(components: Components) -> NotFound:
    return NotFound(f"no mapping covers `{_joined(components)}`")


# -- reading the definition ---------------------------------------------------------------------


def _path_home(user: User) -> HomeMapping:
    findings = _Findings(user)
    if _VARIABLE.search(user.home_directory):
        findings.add(
            f"HomeDirectory `{user.home_directory}` holds a variable, which only a Target may",
            hint="write the directory literally, or use HomeDirectoryMappings",
        )
    if user.home_directory_mappings:
        findings.add(
            "HomeDirectoryMappings need HomeDirectoryType LOGICAL",
            hint="add `HomeDirectoryType: LOGICAL`",
        )
    _check_start(user, findings)
    findings.raise_any()
    start = normalise(user.home_directory.encode())
    children = {start[0]: Mapped(f"/{start[0]}", start[0], "", is_root=True)} if start else {}
    return HomeMapping(start, Virtual("/", children), bucket_rooted=True)


def _check_start(user: User, findings: _Findings) -> None:
    home = user.home_directory
    if not home.startswith("/") or not _is_clean(home) or len(home) > _ENTRY_CHARS_MAX:
        findings.add(
            f"HomeDirectory `{home}` does not start with `/`, or is longer than 1,024 characters"
        )


def _logical_home(user: User) -> HomeMapping:
    findings = _Findings(user)
    mappings = user.home_directory_mappings
    if not 1 <= len(mappings) <= HOME_MAPPINGS_MAX:
        findings.add(
            f"HomeDirectoryType LOGICAL needs 1 to {HOME_MAPPINGS_MAX:,} HomeDirectoryMappings,"
            f" not {len(mappings):,}"
        )
    roots: dict[Components, Mapped] = {}
    for mapping in mappings:
        entry = _entry(mapping, findings)
        target = _target(mapping, user.user_name, findings)
        if entry is None or target is None:
            continue
        if entry in roots:
            findings.add(f"Entry `{mapping.entry}` is given twice")
            continue
        is_file = mapping.type == "FILE"
        if is_file and len(target) == 1:
            findings.add(f"Target `{mapping.target}` of Type FILE names a bucket, not an object")
            continue
        key = "/".join(target[1:])
        roots[entry] = Mapped(_joined(entry), target[0], key, is_root=True, is_file=is_file)
    _refuse_overlaps(roots, findings)
    _check_start(user, findings)
    findings.raise_any()
    home = HomeMapping((), _tree(roots))
    start = normalise(user.home_directory.encode())
    try:
        _find(home.tree, start)
    except NotFound:
        findings.add(
            f"HomeDirectory `{user.home_directory}` is in none of the HomeDirectoryMappings",
            hint="leave it out to start in `/`",
        )
    findings.raise_any()
    return HomeMapping(start, home.tree)


class _Findings:
    """Faults of one user, gathered so that all are told at once."""

    def __init__(self, user: User) -> None:
        self._user = user
        self._found: list[Finding] = []

    def add(self, message: str, *, hint: str | None = None) -> None:
        self._found.append(
            Finding(
                "error",
                message,
                source=self._user.source,
                resource=self._user.logical_id,
                hint=hint,
                rule="home-directory",
            )
        )

    def raise_any(self) -> None:
        if self._found:
            raise DefinitionError(self._found)


def _entry(mapping: HomeDirectoryMapping, findings: _Findings) -> Components | None:
    entry = mapping.entry
    if not entry.startswith("/") or len(entry) > _ENTRY_CHARS_MAX:
        findings.add(f"Entry `{entry}` does not start with `/`, or is longer than 1,024 characters")
        return None
    components = tuple(entry.split("/")[1:])
    if components == ("",):
        return ()
    if _has_odd_component(components):
        findings.add(f"Entry `{entry}` has an empty, `.` or `..` level, or ends with `/`")
        return None
    return components


def _target(
    mapping: HomeDirectoryMapping, user_name: str, findings: _Findings
) -> Components | None:
    """Bucket and key components of a Target, with the user's name put in as data.

    The text is split first and substituted afterwards, so that a value cannot add a level.
    """
    target = mapping.target
    if not target.startswith("/") or target.endswith("/") or len(target) > _ENTRY_CHARS_MAX:
        findings.add(
            f"Target `{target}` must start with `/`, must not end with `/`,"
            " and has at most 1,024 characters"
        )
        return None
    variables = {name.lower() for name in _VARIABLE.findall(target)}
    if variables - {"transfer:username"}:
        findings.add(
            f"Target `{target}` holds a variable that LOGICAL mappings do not have",
            hint="only ${transfer:UserName} is known there",
        )
        return None
    components = tuple(
        _VARIABLE.sub(lambda _match: user_name, level) for level in target.split("/")[1:]
    )
    if _has_odd_component(components) or any("/" in level for level in components):
        findings.add(f"Target `{target}` has an empty, `.` or `..` level for `{user_name}`")
        return None
    return components


def _has_odd_component(components: Components) -> bool:
    return any(level in ("", ".", "..") or not _is_clean(level) for level in components)


def _is_clean(text: str) -> bool:
    """Whether this is text that a path can hold: no NUL, no lone surrogate out of a JSON escape."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def _refuse_overlaps(roots: Mapping[Components, Mapped], findings: _Findings) -> None:
    for entry, root in roots.items():
        for depth in range(len(entry)):
            if (above := roots.get(entry[:depth])) is not None:
                findings.add(
                    f"Entry `{root.path}` lies inside Entry `{above.path}`",
                    hint="entries must not overlap, and `/` stands alone",
                )


def _tree(roots: Mapping[Components, Mapped]) -> Resolved:
    if () in roots:
        return roots[()]
    return _level((), sorted(roots.items(), key=lambda item: [c.encode() for c in item[0]]))


def _level(above: Components, entries: list[tuple[Components, Mapped]]) -> Virtual:
    """The virtual level at ``above``; recursion is as deep as an entry has levels."""
    depth = len(above)
    groups: dict[str, list[tuple[Components, Mapped]]] = {}
    for entry in entries:
        groups.setdefault(entry[0][depth], []).append(entry)
    children: dict[str, Resolved] = {}
    for name, group in groups.items():
        components, root = group[0]
        is_leaf = len(components) == depth + 1
        children[name] = root if is_leaf else _level((*above, name), group)
    return Virtual(_joined(above), children)
