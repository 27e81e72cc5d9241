"""The operator's query socket."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from feedgate.errors import UsageError
from feedgate.gateway.queries import Answer, QueryServer, ask


def answer(sql: str) -> Answer:
    """Echo the SQL, or refuse it."""
    if sql.startswith("DROP"):
        raise UsageError("only SELECT is allowed", hint="use `receipts`")
    return Answer(("sql",), ("VARCHAR",), ((sql,),))


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A served socket in a folder whose path is longer than a socket address may be."""
    folder = tmp_path / ("long-" * 20)
    folder.mkdir()
    server = QueryServer(folder / "query.sock", answer)
    server.start()
    yield folder / "query.sock"
    server.stop()


def test_asks_and_answers(path: Path) -> None:
    """Columns and rows come back as they were."""
    assert ask(path, "SELECT 1") == Answer(("sql",), ("VARCHAR",), (("SELECT 1",),))


def test_the_socket_is_the_owners(path: Path) -> None:
    """Nobody else on the machine can connect."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_refusal_keeps_its_hint(path: Path) -> None:
    """What the gateway refuses is raised with its next step."""
    with pytest.raises(UsageError, match="only SELECT") as caught:
        ask(path, "DROP TABLE t")
    assert caught.value.hint == "use `receipts`"


def test_no_gateway_is_none(tmp_path: Path) -> None:
    """Without a socket, or with a dead one, there is nobody to ask."""
    assert ask(tmp_path / "query.sock", "SELECT 1") is None
