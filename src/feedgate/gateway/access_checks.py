"""Before anyone connects: which user could not list, put or get, which pipe not read, and why.

The same judge that will serve the stack is asked in advance, for a sample path in each of a user's
folders, and as each pipe's storage integration for a sample object under its stage.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from feedgate.access.actions import COMMANDS
from feedgate.access.authorize import Judge
from feedgate.access.explain import (
    Explanation,
    explain_pipe,
    explain_unasked,
    explain_user,
    operations_of,
)
from feedgate.access.principals import role_session_for_user
from feedgate.errors import (
    AccessDenied,
    Conflict,
    DefinitionError,
    FeedgateError,
    Finding,
    NotFound,
    Unsupported,
    UsageError,
)
from feedgate.files.mapping import HomeMapping, Mapped, Virtual
from feedgate.gateway.definition import Definition
from feedgate.pipes.match import location_of, why_not
from feedgate.stack.resources import User
from feedgate.stack.warehouse import Pipe, Warehouse

__all__ = [
    "access_findings",
    "explain_path",
    "explain_pipe_path",
    "require_role",
    "user_access_findings",
]

_SAMPLE_NAME = "sample.csv"


def access_findings(definition: Definition) -> list[Finding]:
    """Refusals that suppliers and pipes would meet; empty where everybody can work."""
    judge = _judge(definition)
    found: list[Finding] = []
    for user in definition.stack.users.values():
        found.extend(_user_findings(judge, user))
    if definition.warehouse is not None:
        for pipe in definition.warehouse.pipes.values():
            found.extend(_pipe_findings(judge, definition.warehouse, pipe))
    return found


def user_access_findings(definition: Definition, user: User) -> list[Finding]:
    """Refusals that this user would meet; he may be one that only the gateway knows."""
    return list(_user_findings(_judge(definition), user))


def require_role(definition: Definition, user: User) -> None:
    """Raises ``AccessDenied`` or ``DefinitionError`` where a login ends with the user's role."""
    role_session_for_user(definition.stack, user, session_id="0" * 16, judge=_judge(definition))


def explain_path(
    definition: Definition, user: User, operation: str, path: str, *, target: str | None = None
) -> Explanation:
    """Explain an operation of a user on a supplier's path, as ``files.home`` will take it.

    Raises:
        NotFound: no mapping of the user covers the path, or it lies in no bucket of the stack.
        Conflict: the operation is one on a file, and the path is a directory of the mapping.
        Unsupported: a rename from one bucket to another.
        UsageError: there is no such operation, or a rename without a target.
    """
    if (operation == "rename") != (target is not None):
        raise UsageError(
            "a rename takes the old path and the new one, other operations take one path",
            hint=f"for example `feedgate explain {user.user_name} rename /a.csv /b.csv`",
        )
    if operation not in (known := operations_of("supplier")):
        raise UsageError(f"there is no operation `{operation}`", hint=f"one of {', '.join(known)}")
    mapping = HomeMapping.of(user)
    judge = _judge(definition)
    found = mapping.resolve(_bytes(path))
    if why := _why_unasked(found, operation, user):
        bucket, key = ("", "") if isinstance(found, Virtual) else (found.bucket, found.key)
        return explain_unasked(judge, user, operation, path, why, bucket=bucket, key=key)
    source = _place(definition, user, found, path, operation)
    written = target if "open-write" not in COMMANDS.get(operation, (operation,)) else path
    if written is not None and written.rpartition("/")[2] in ("", ".", ".."):
        raise Conflict(f"`{written}` is named as a directory, and takes no file")
    to = None
    if target is not None:
        there = _place(definition, user, mapping.resolve(_bytes(target)), target, operation)
        if there.bucket != source.bucket:
            raise Unsupported(
                f"`{path}` lies in the bucket `{source.bucket}`, `{target}` in `{there.bucket}`:"
                " renaming from one bucket to another is not supported"
            )
        to = there.key
    return explain_user(
        judge,
        user,
        operation,
        source.bucket,
        source.key,
        is_directory=path.endswith("/"),
        target=to,
        path=path,
    )


def explain_pipe_path(
    definition: Definition, pipe_name: str, key: str | None, *, bucket: str | None = None
) -> Explanation:
    """Explain whether a pipe's storage integration may read a key (default: a sample).

    ``bucket`` is by default the one of the pipe's stage.

    Raises:
        NotFound: there is no such pipe.
    """
    warehouse = definition.warehouse
    if warehouse is None:
        raise NotFound("this stack has no warehouse.sql")
    pipes = [
        pipe
        for name, pipe in warehouse.pipes.items()
        if pipe_name.upper() in (str(name).upper(), name.name.upper())
    ]
    if not pipes:
        names = ", ".join(str(name) for name in warehouse.pipes)
        raise NotFound(f"there is no pipe `{pipe_name}`", hint=f"one of {names}")
    return _explain_pipe(_judge(definition), warehouse, pipes[0], key, bucket=bucket)


def _judge(definition: Definition) -> Judge:
    return Judge(definition.stack, lambda _event: None, time.time)


_LISTINGS = frozenset({"ls", "list", "opendir", "readdir"})
_STATS = frozenset({"stat", "lstat", "realpath", "setstat"})


def _bytes(path: str) -> bytes:
    """A path as a client would send it; what is not UTF-8 is refused by the mapping."""
    return path.encode("utf-8", "surrogateescape")


def _why_unasked(found: Mapped | Virtual, operation: str, user: User) -> str | None:
    """Why no policy is asked: what the mapping says exists needs no leave to be seen."""
    if isinstance(found, Virtual):
        if operation in _LISTINGS | _STATS:
            names = ", ".join(found.children) or "nothing"
            return (
                f"`{found.path}` is a level above the mappings of `{user.user_name}`; it lists its"
                f" mappings, no policy is asked: {names}"
            )
    elif operation in _STATS and found.is_root and not found.is_file:
        return f"`{found.path}` is a directory of the mapping: it exists, no policy is asked"
    return None


def _place(
    definition: Definition, user: User, found: Mapped | Virtual, path: str, operation: str
) -> Mapped:
    """Where a path lies for an operation that asks the judge."""
    is_directory = isinstance(found, Virtual) or (found.is_root and not found.is_file)
    if is_directory and operation not in _LISTINGS | _STATS:
        raise Conflict(
            f"`{path}` is a directory of the mappings of `{user.user_name}`, and"
            f" `{operation}` takes a path below one",
            hint=f"for example `{path.rstrip('/')}/{_SAMPLE_NAME}`",
        )
    assert isinstance(found, Mapped)
    if found.is_file and operation in _LISTINGS:
        raise NotFound(f"`{path}` is a file of the mapping, not a directory")
    _require_bucket(definition, found.bucket)
    return found


def _require_bucket(definition: Definition, name: str) -> None:
    buckets = definition.stack.buckets
    if name not in buckets:
        raise NotFound(
            f"the stack has no bucket `{name}`", hint=f"it has {', '.join(sorted(buckets))}"
        )


def _user_findings(judge: Judge, user: User) -> Iterator[Finding]:
    try:
        roots = list(_roots(HomeMapping.of(user)))
    except DefinitionError as error:
        yield from error.findings
        return
    seen: set[tuple[str, str]] = set()
    for root in roots:
        file = root if root.is_file else _below(root)
        for operation, on in (("ls", root), ("put", file), ("get", file)):
            if root.is_file and operation == "ls":
                continue
            try:
                explanation = explain_user(judge, user, operation, on.bucket, on.key, path=on.path)
            except AccessDenied as error:
                yield _finding(error, user)
                return
            except DefinitionError as error:
                yield from error.findings
                return
            finding = explanation.finding()
            if finding is not None and (operation, explanation.summary()) not in seen:
                seen.add((operation, explanation.summary()))
                yield finding


def _roots(mapping: HomeMapping) -> Iterator[Mapped]:
    """Every place that an entry points at; for a PATH home, where the session starts."""
    waiting = [mapping.resolve(b".") if mapping.bucket_rooted else mapping.tree]
    while waiting:
        level = waiting.pop()
        if isinstance(level, Mapped):
            yield level
        else:
            waiting.extend(level.children.values())


def _below(root: Mapped) -> Mapped:
    return Mapped(
        path=f"{root.path.rstrip('/')}/{_SAMPLE_NAME}",
        bucket=root.bucket,
        key=root.prefix + _SAMPLE_NAME,
    )


def _pipe_findings(judge: Judge, warehouse: Warehouse, pipe: Pipe) -> Iterator[Finding]:
    try:
        finding = _explain_pipe(judge, warehouse, pipe, None).finding()
    except FeedgateError as error:
        yield Finding(
            "error",
            f"pipe `{pipe.name}` cannot read: {error.message}",
            source=pipe.source,
            hint=error.hint,
            rule="access",
        )
        return
    if finding is not None:
        yield finding


def _explain_pipe(
    judge: Judge,
    warehouse: Warehouse,
    pipe: Pipe,
    key: str | None,
    *,
    bucket: str | None = None,
) -> Explanation:
    integration = warehouse.integrations[warehouse.stages[pipe.copy.stage].integration]
    location = location_of(warehouse, pipe)
    blocked = None
    if bucket is not None and bucket != location.bucket:
        reads = f"s3://{location.bucket}/{location.prefix}"
        blocked = f"the pipe never reads the bucket `{bucket}`: it reads `{reads}`"
    elif key is not None:
        reason = why_not(warehouse, pipe, location.bucket, key)
        blocked = f"the pipe does not read that file: {reason}" if reason else None
    return explain_pipe(
        judge,
        str(pipe.name),
        integration.role_arn,
        bucket or location.bucket,
        key if key is not None else location.prefix + _SAMPLE_NAME,
        external_id=integration.external_id,
        blocked=blocked,
    )


def _finding(error: AccessDenied, user: User) -> Finding:
    return Finding(
        "error", error.message, user.source, user.logical_id, hint=error.hint, rule="access"
    )
