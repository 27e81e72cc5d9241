"""``status`` and ``logs``: what a gateway does and did."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from feedgate.cli.options import data_folder, data_option, json_option, stack_option
from feedgate.cli.output import note, print_json, result
from feedgate.errors import CouldNot
from feedgate.limits import POLL_S

__all__ = ["logs", "status"]


@click.command()
@stack_option
@data_option
@json_option
def status(stack: Path, data: Path | None, as_json: bool) -> None:
    """Show what runs, what waits, and what needs a decision.

    Exit code 0: running and nothing waits. 1: a change or a landing waits for your decision, or a
    load failed. 4: no gateway is running.

    \b
    Examples:
      feedgate status
      feedgate status --json | jq .loads
    """
    from feedgate.gateway.definition import DefinitionStore
    from feedgate.gateway.services import open_database
    from feedgate.identity.store import UserStore
    from feedgate.ledger.store import Ledger

    folder = data_folder(stack, data)
    running = folder.running()
    database = open_database(folder)
    try:
        definitions = DefinitionStore(database)
        users = UserStore(database)
        report: dict[str, Any] = {
            "running": running is not None,
            "pid": running and running["pid"],
            "sftp": running and running["sftp"],
            "like_aws": bool(running and running.get("like_aws")),
            "generation": definitions.generation(),
            "users": len(users.list()),
            "waiting_changes": list(definitions.pending()),
            "trouble": definitions.trouble(),
            "drift": [str(item) for item in users.drift()],
            "drifted_users": sorted({item.user_name for item in users.drift()}),
            "loads": Ledger(database).counts(),
            **_host_keys(folder.hostkeys),
        }
    finally:
        database.close()
    if as_json:
        print_json(report)
    else:
        _print_status(report)
    loads = report["loads"]
    needs = (
        report["waiting_changes"]
        or report["trouble"]
        or report["host_key_trouble"]
        or loads.get("AWAITING_DECISION")
        or loads.get("LOAD_FAILED")
    )
    click.get_current_context().exit(4 if running is None else 1 if needs else 0)


def _host_keys(folder: Path) -> dict[str, Any]:
    """The host keys' fingerprints, and what is wrong with them."""
    from feedgate.sftp.hostkeys import host_key_fingerprints

    try:
        return {"host_key_fingerprints": host_key_fingerprints(folder), "host_key_trouble": None}
    except CouldNot as error:
        return {"host_key_fingerprints": [], "host_key_trouble": str(error)}


def _print_status(report: dict[str, Any]) -> None:
    if report["running"]:
        sftp = report["sftp"]
        like = ", like AWS Transfer" if report["like_aws"] else ""
        result(f"running (pid {report['pid']}), sftp on {sftp['host']}:{sftp['port']}{like}")
    else:
        result("not running")
    for fingerprint in report["host_key_fingerprints"]:
        result(f"host key {fingerprint}")
    if report["host_key_trouble"]:
        result(f"host keys: {report['host_key_trouble']}")
    result(f"{report['users']} users")
    counts = dict(report["loads"])
    result(f"{counts.pop('LANDINGS', 0)} landings, {counts.pop('PENDING', 0)} not offered yet")
    for name, count in sorted(counts.items()):
        result(f"{count} {name.lower().replace('_', ' ')}")
    if report["trouble"]:
        result(f"not taken up: {report['trouble']}")
    for change in report["waiting_changes"]:
        result(f"waits for --yes: {change}")
    for item in report["drift"]:
        result(f"changed live: {item}")
    if report["drift"]:
        names = " ".join(f"--reset-drift {name}" for name in report["drifted_users"])
        note(f"  back to the template: feedgate apply {names}")
    if report["loads"].get("AWAITING_DECISION"):
        note("  a file came again under a loaded name with other bytes; it is kept, not loaded")
        note("  next: feedgate receipts --status AWAITING_DECISION")
    if report["waiting_changes"]:
        note("  next: feedgate apply --yes")


@click.command()
@stack_option
@data_option
@click.option("-f", "--follow", is_flag=True, help="Go on printing what is added.")
@click.option("-n", "--lines", default=50, show_default=True, help="How many lines to begin with.")
@click.option("--audit", is_flag=True, help="The decisions instead of the activities.")
def logs(stack: Path, data: Path | None, follow: bool, lines: int, audit: bool) -> None:
    """Print the gateway's log, one JSON object a line.

    \b
    Examples:
      feedgate logs -f
      feedgate logs --audit -n 5
    """
    folder = data_folder(stack, data)
    path = folder.audit_file if audit else folder.log_file
    if not path.exists():
        note("nothing has been logged yet")
        return
    with path.open(encoding="utf-8") as stream:
        for line in stream.readlines()[-lines:]:
            result(line.rstrip("\n"))
        while follow:
            if line := stream.readline():
                result(line.rstrip("\n"))
            else:
                time.sleep(POLL_S / 4)
