"""A column of another type: what an author sees whose table holds values already."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.integration

GOOD = "order_id,customer,amount,ordered_at,priority\n7,Ada,1.50,2026-01-02 03:04:05,yes\n"


def test_a_retyped_column_waits_alone(running: Any) -> None:
    """The column keeps its type and is named; the rest is applied, also by a fresh `up`."""
    (running.folder / "a.csv").write_text(GOOD)
    put = running.sftp(f"put {running.folder}/a.csv orders/a.csv")
    assert put.returncode == 0, put.stderr
    [load] = running.wait_for_loads(1)
    assert load["status"] == "LOADED", load
    script = running.stack / "warehouse.sql"
    before = script.read_text()
    column = next(line for line in before.splitlines() if line.strip().startswith("amount "))
    line = before.splitlines().index(column) + 1
    script.write_text(
        before.replace(column, "  amount VARCHAR,").replace(
            "CREATE TABLE IF NOT EXISTS events",
            "CREATE TABLE IF NOT EXISTS others (a INT);\nCREATE TABLE IF NOT EXISTS events",
        )
    )
    applied = running.feedgate("apply")
    assert applied.returncode == 1
    assert f"refused: Modify TABLE `LANDING.RAW.ORDERS` (warehouse.sql:{line}:" in applied.stdout
    assert "1 values are stored" in applied.stdout
    assert "Add TABLE `LANDING.RAW.OTHERS`" in applied.stdout
    running.wait_for(lambda: "without loss" in running.feedgate("status").stdout)
    assert running.rows("SELECT count(*) FROM others") == [[0]]
    assert running.stop() == 0
    running.start()
    status = running.feedgate("status")
    assert status.returncode == 1
    assert f"not taken up: warehouse.sql:{line}:" in status.stdout
    assert f"not taken up: warehouse.sql:{line}:" in running.output.read_text()
    put = running.sftp(f"put {running.folder}/a.csv orders/b.csv")
    assert put.returncode == 0, put.stderr
    assert [load["status"] for load in running.wait_for_loads(2)] == ["LOADED", "LOADED"]
    script.write_text(before)
    restored = running.feedgate("apply")
    assert restored.returncode == 1  # the table `others` goes, which waits
    assert "refused" not in restored.stdout
    assert running.feedgate("apply", "--yes").returncode == 0
    running.wait_for(lambda: running.feedgate("status").returncode == 0)
