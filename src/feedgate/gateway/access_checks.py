"""Before anyone connects: which user could not list, put or get, which pipe not read, and why.

The same judge that will serve the stack is asked in advance, for a sample path in each of a user's
folders, and as each pipe's storage integration for a sample object under its stage.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from feedgate.access.authorize import Judge
from feedgate.access.explain import Explanation, explain_pipe, explain_user
from feedgate.errors import AccessDenied, DefinitionError, FeedgateError, Finding, NotFound
from feedgate.files.mapping import HomeMapping, Mapped, Virtual
from feedgate.gateway.definition import Definition
from feedgate.pipes.match import location_of
from feedgate.stack.resources import User
from feedgate.stack.warehouse import Pipe, Warehouse

__all__ = ["access_findings", "explain_path", "explain_pipe_path"]

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


def explain_path(
    definition: Definition, user: User, operation: str, path: str, *, target: str | None = None
) -> Explanation:
    """Explain an operation of a user on a supplier's path.

    Raises:
        NotFound: no mapping of the user covers the path, so no policy is asked.
        UsageError: there is no such operation.
    """
    mapping = HomeMapping.of(user)
    found = _mapped(mapping, user, path)
    to = _mapped(mapping, user, target).key if target is not None else None
    return explain_user(
        _judge(definition), user, operation, found.bucket, found.key, target=to, path=path
    )


def explain_pipe_path(definition: Definition, pipe_name: str, key: str | None) -> Explanation:
    """Explain whether a pipe's storage integration may read a key (default: a sample)."""
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
    return _explain_pipe(_judge(definition), warehouse, pipes[0], key)


def _judge(definition: Definition) -> Judge:
    return Judge(definition.stack, lambda _event: None, time.time)


def _mapped(mapping: HomeMapping, user: User, path: str) -> Mapped:
    found = mapping.resolve(path.encode())
    if isinstance(found, Virtual):
        raise NotFound(
            f"`{path}` is a level above the mappings of `{user.user_name}`: it lists"
            f" {', '.join(sorted(found.children)) or 'nothing'} and takes no files",
            hint="name a path below one of them",
        )
    return found


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


def _explain_pipe(judge: Judge, warehouse: Warehouse, pipe: Pipe, key: str | None) -> Explanation:
    integration = warehouse.integrations[warehouse.stages[pipe.copy.stage].integration]
    location = location_of(warehouse, pipe)
    return explain_pipe(
        judge,
        str(pipe.name),
        integration.role_arn,
        location.bucket,
        key if key is not None else location.prefix + _SAMPLE_NAME,
        external_id=integration.external_id,
    )


def _finding(error: AccessDenied, user: User) -> Finding:
    return Finding(
        "error", error.message, user.source, user.logical_id, hint=error.hint, rule="access"
    )
