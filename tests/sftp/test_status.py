"""What a supplier reads for an error."""

from __future__ import annotations

import pytest

from feedgate import errors
from feedgate.sftp import status
from feedgate.sftp.packets import MalformedError

CANARY = "arn:aws:s3:::secret-bucket/key"


def every_error() -> list[type[Exception]]:
    """Every class of the error tree."""
    found: list[type[Exception]] = []
    todo: list[type[Exception]] = [errors.FeedgateError]
    while todo:
        kind = todo.pop()
        found.append(kind)
        todo += kind.__subclasses__()
    return found


@pytest.mark.parametrize("kind", [*every_error(), OSError, KeyError, MalformedError])
def test_no_text_of_ours_leaves(kind: type[Exception]) -> None:
    """Whatever an error says, the client reads one of a few fixed texts."""
    argument: object = CANARY
    if kind is errors.DefinitionError:
        argument = [errors.Finding("error", CANARY)]
    code, text = status.status_of(kind(argument))  # type: ignore[call-arg]
    assert code in status.TEXTS
    assert text in {*status.TEXTS.values(), "no space"}


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (errors.NotFound("x"), 2, "No such file"),
        (errors.AccessDenied("x"), 3, "Permission denied"),
        (errors.Conflict("x"), 4, "Failure"),
        (errors.CouldNot("x"), 4, "Failure"),
        (errors.Integrity("x"), 4, "Failure"),
        (errors.NoSpace("x"), 4, "no space"),
        (errors.Unsupported("x"), 8, "Operation unsupported"),
        (errors.Unsupported("Cannot rename a directory"), 8, "Cannot rename a directory"),
        (MalformedError("x"), 5, "Bad message"),
        (ZeroDivisionError(), 4, "Failure"),
    ],
)
def test_table(error: Exception, code: int, text: str) -> None:
    """Each kind of error has its code and text."""
    assert status.status_of(error) == (code, text)
