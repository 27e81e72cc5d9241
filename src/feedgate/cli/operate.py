"""``up``, ``down``, ``apply``: a gateway's life."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from feedgate.cli.door_options import (
    admission_limits,
    default_workers,
    door_arguments,
    door_options,
    proxy_from,
)
from feedgate.cli.options import (
    data_option,
    data_root,
    json_option,
    run_options,
    run_values,
    stack_argument,
    stack_option,
)
from feedgate.cli.output import note, on_terminal, print_json, result, safe, size_text
from feedgate.errors import CouldNot, UsageError
from feedgate.limits import GRACE_S

if TYPE_CHECKING:
    from feedgate.database import Database
    from feedgate.gateway.apply import Outcome
    from feedgate.gateway.folder import DataFolder
    from feedgate.gateway.reading import RunValues
    from feedgate.gateway.supervisor import GatewayOptions
    from feedgate.ledger.receipts import Landing
    from feedgate.ledger.store import Ledger
    from feedgate.stack.access_tags import AddressRules

__all__ = ["Application", "apply", "down", "up"]


@click.command()
@stack_argument
@data_option
@click.option(
    "--listen",
    default="127.0.0.1:2222",
    show_default=True,
    envvar="FEEDGATE_LISTEN",
    metavar="HOST:PORT",
    help="Where suppliers connect; port 0 picks a free one.",
)
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path),
    help="Written as JSON when the door is open, removed when it closes.",
)
@click.option(
    "--workers",
    default=default_workers,
    show_default="number of cores, at most 4",
    type=click.IntRange(1, 64),
    help="Processes that serve suppliers.",
)
@click.option(
    "--grace",
    default=float(GRACE_S),
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds that SIGTERM gives open transfers.",
)
@click.option(
    "--like-aws",
    is_flag=True,
    help="Do as AWS Transfer does where feedgate does better: no resume, no extensions, ….",
)
@click.option("--yes", is_flag=True, help="Apply changes that delete or replace, too.")
@click.option(
    "--reset-drift",
    multiple=True,
    metavar="NAME",
    help="Take a user back to what the template says, dropping live changes.",
)
@click.option("-d", "--detach", is_flag=True, help="Run in the background.")
@door_options
@run_options
def up(
    stack: Path,
    data: Path | None,
    listen: str,
    ready_file: Path | None,
    workers: int,
    grace: float,
    like_aws: bool,
    yes: bool,
    reset_drift: tuple[str, ...],
    detach: bool,
    **options: Any,
) -> None:
    """Serve the stack of a folder over SFTP until SIGTERM or Ctrl-C.

    \b
    Examples:
      feedgate up
      feedgate up examples/landing --listen 0.0.0.0:22
      feedgate up -d && feedgate status
      feedgate up --listen 0.0.0.0:22 --proxy-protocol-from 10.0.0.0/24
      feedgate up --like-aws        # rehearse what suppliers will meet on AWS
      feedgate up --parameter-overrides file://params/prod.json HostName=sftp.example.com
    """
    from feedgate.cli.processes import child_command
    from feedgate.gateway.folder import DataFolder
    from feedgate.gateway.rendering import find_template
    from feedgate.gateway.supervisor import GatewayOptions

    find_template(stack)  # before anything is made on disk
    folder = DataFolder.create(data_root(stack, data))
    if detach:
        _detach(folder, ready_file)
        return
    host, port = parse_address(listen)
    mode = ["--like-aws"] if like_aws else []
    gateway_options = GatewayOptions(
        folder=folder,
        listen_host=host,
        listen_port=port,
        command=lambda role, fd: child_command(folder, host, [role, "--fd", str(fd), *mode]),
        ready_file=ready_file,
        workers=workers,
        grace_s=grace,
        like_aws=like_aws,
        admission=admission_limits(options),
        door=door_arguments(options),
        proxy_from=proxy_from(options),
    )
    application = Application(stack, run_values(options), yes=yes, reset_drift=reset_drift)
    _serve(gateway_options, application)


@click.command()
@stack_option
@data_option
@click.option("--timeout", default=GRACE_S + 10.0, help="Seconds to wait for it to end.")
def down(stack: Path, data: Path | None, timeout: float) -> None:
    """Stop the gateway: no new connections, open transfers get their grace, then it ends.

    \b
    Example:
      feedgate down
    """
    from feedgate.gateway.folder import DataFolder, RunLock

    folder = DataFolder(data_root(stack, data).absolute())
    record = folder.running()
    if record is None:
        raise CouldNot(f"no gateway is running in `{folder.root}`", hint="`feedgate up` starts one")
    os.kill(int(record["pid"]), signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while RunLock(folder).held_by_another():
        if time.monotonic() > deadline:
            raise CouldNot(f"the gateway (pid {record['pid']}) did not end in {timeout:.0f} s")
        time.sleep(0.05)
    note("the gateway has stopped")


@click.command()
@stack_argument
@data_option
@click.option("--yes", is_flag=True, help="Apply changes that delete or replace, too.")
@click.option(
    "--reset-drift",
    multiple=True,
    metavar="NAME",
    help="Take a user back to what the template says, dropping live changes.",
)
@json_option
@run_options
def apply(
    stack: Path,
    data: Path | None,
    yes: bool,
    reset_drift: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Apply an edited stack; a running gateway takes it up within a second.

    A stack with a fault changes nothing: the gateway goes on serving the last good one.
    Exit code 1: something waits or was refused.

    \b
    Examples:
      feedgate apply
      feedgate apply --yes --parameter-overrides HostName=sftp.example.com
    """
    from feedgate.gateway.folder import DataFolder
    from feedgate.gateway.services import open_database

    folder = DataFolder.create(data_root(stack, data))
    database = open_database(folder)
    try:
        outcome = Application(stack, run_values(options), yes=yes, reset_drift=reset_drift).apply(
            folder, database
        )
    finally:
        database.close()
    if as_json:
        print_json(
            {
                "applied": outcome.applied,
                "changes": [str(change) for change in outcome.changes],
                "waiting": [str(change) for change in outcome.waiting],
                "refused": [str(change) for change in outcome.refused],
            }
        )
    else:
        _print_outcome(outcome)
    if outcome.waiting or outcome.refused:
        click.get_current_context().exit(1)


def _print_outcome(outcome: Outcome) -> None:
    for change in outcome.changes:
        mark = "waits for --yes: " if change in outcome.waiting else ""
        result(f"{'refused: ' if change.refused else mark}{change}")
    if outcome.first:
        note("applied")
    elif not outcome.changes:
        note("nothing to change")
    elif outcome.waiting:
        note("nothing was applied: some changes delete or replace; the last good stack is served")
        note("  next: run it again with --yes")
    elif outcome.refused:
        note("applied without what is refused")
        note("  next: declare the type that it has, or a column of another name")
    else:
        note("applied")


def parse_address(listen: str) -> tuple[str, int]:
    """``HOST:PORT``, ``[v6]:PORT``, ``:PORT`` or ``PORT`` as host and port."""
    host, _, port = listen.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise UsageError(f"`{listen}` is not HOST:PORT", hint="for example --listen 127.0.0.1:2222")
    return host.strip("[]") or "127.0.0.1", int(port)


@dataclass(frozen=True, slots=True)
class Application:
    """What is applied, with which values, and how far it may go."""

    stack: Path
    values: RunValues
    yes: bool = False
    reset_drift: tuple[str, ...] = ()

    def apply(self, folder: DataFolder, database: Database) -> Outcome:
        """Read, check and apply the stack; on a terminal, ask before anything is deleted."""
        outcome = self._apply(folder, database, yes=self.yes)
        if outcome.waiting and sys.stdin.isatty() and on_terminal():
            for change in outcome.waiting:
                note(f"  {change}")
            if click.confirm("Apply these changes, which delete or replace?", err=True):
                outcome = self._apply(folder, database, yes=True)
        return outcome

    def _apply(self, folder: DataFolder, database: Database, *, yes: bool) -> Outcome:
        from feedgate.gateway.apply import apply_definition
        from feedgate.gateway.definition import DefinitionStore
        from feedgate.gateway.reading import read_definition
        from feedgate.identity.store import UserStore

        previous = DefinitionStore(database).applied()
        definition = read_definition(self.stack, self.values, previous)
        now_ms = int(time.time() * 1000)
        outcome = apply_definition(folder, database, definition, yes=yes, now_ms=now_ms)
        for name in self.reset_drift:
            UserStore(database).reset_drift(name)
        return outcome


def _serve(options: GatewayOptions, application: Application) -> None:
    from feedgate.cli.hostkey_watch import HostKeyFollower
    from feedgate.gateway.housekeeping import Housekeeping
    from feedgate.gateway.logins import LoginTally
    from feedgate.gateway.services import open_database
    from feedgate.gateway.supervisor import Supervisor
    from feedgate.ledger.store import Ledger
    from feedgate.telemetry import EventLog

    folder = options.folder
    database = open_database(folder)
    log = EventLog.file(folder.log_file, now=time.time)
    housekeeping = Housekeeping(folder, database, log)
    host_keys = HostKeyFollower(folder.hostkeys, options.ready_file, log)
    logins = LoginTally(database, log)
    supervisor = Supervisor(
        options,
        log,
        on_event=partial(_print_event, Ledger(database)) if on_terminal() else lambda _event: None,
        on_worker_gone=housekeeping.give_up_uploads,
        rules=_server_rules(database),
        on_refused=logins.refused,
        on_login=logins.accepted,
        pardons=logins.take_pardons,
    )

    def prepare() -> None:
        from feedgate.sftp.hostkeys import ensure_host_keys

        if ensure_host_keys(folder.hostkeys):
            log.info("made new host keys")
        housekeeping.start()
        outcome = application.apply(folder, database)
        for change in outcome.waiting:
            log.warning("a change waits for --yes", change=str(change))
            note(f"waits for --yes, not applied: {change}")

    def opened(host: str, port: int) -> None:
        _opened(options, database, application.stack, host, port)
        host_keys.start()
        logins.start()

    try:
        supervisor.run(prepare, opened)
    finally:
        host_keys.stop()
        logins.stop()
        housekeeping.stop()
        database.close()


def _server_rules(database: Database) -> Callable[[], AddressRules]:
    """The server's lists of addresses, read again when the definition changed."""
    from feedgate.gateway.definition import DefinitionStore
    from feedgate.stack.access_tags import ANY_ADDRESS, rules_of

    definitions = DefinitionStore(database)
    known: tuple[int, AddressRules] = (-1, ANY_ADDRESS)

    def rules() -> AddressRules:
        nonlocal known
        generation = definitions.generation()
        if generation != known[0]:
            applied = definitions.applied()
            if applied is not None:
                known = (generation, rules_of(applied.stack.server.tags))
        return known[1]

    return rules


def _opened(options: GatewayOptions, database: Database, stack: Path, host: str, port: int) -> None:
    """Tell the script (ready file) and the person (commands to paste) that the door is open."""
    from feedgate.gateway.definition import DefinitionStore
    from feedgate.gateway.folder import write_atomically
    from feedgate.identity.store import UserStore
    from feedgate.sftp.hostkeys import host_key_fingerprints

    folder, ready_file = options.folder, options.ready_file
    users = UserStore(database).list()
    fingerprints = host_key_fingerprints(folder.hostkeys)
    note(f"feedgate serves on {host}:{port}")
    if trouble := DefinitionStore(database).trouble():
        note(f"  not taken up: {trouble}")
    for fingerprint in fingerprints:
        note(f"  host key {fingerprint}")
    for user in users:
        if not user.enabled:
            note(f"  {user.user_name}: disabled")
        elif user.ssh_public_keys:
            key = _private_key_file(stack, {key.fingerprint for key in user.ssh_public_keys})
            note(f"  sftp -P {port} -i {key} {user.user_name}@{host}")
        else:
            name = user.user_name
            note(f"  {name} has no SSH key yet: feedgate user key add {name} FILE.pub")
    note(f"  keyring and data lie together in {folder.root}: keep copies of the keyring elsewhere")
    if ready_file is not None:
        write_atomically(
            ready_file,
            {
                "schema_version": 1,
                "sftp": {"host": host, "port": port},
                "pid": os.getpid(),
                "host_key_fingerprints": fingerprints,
                "users": [user.user_name for user in users],
            },
        )


def _private_key_file(stack: Path, fingerprints: set[str]) -> str:
    """The key pair in the stack's folder that belongs to a user, as `init` made it; else `KEY`."""
    from feedgate.identity.users import parse_public_key

    folder = stack if stack.is_dir() else stack.parent
    for path in sorted(folder.glob("*.pub")):
        try:
            found = parse_public_key(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, UsageError):
            continue
        if found.fingerprint in fingerprints and path.with_suffix("").exists():
            return str(path.with_suffix(""))
    return "KEY"


def live_lines(event: dict[str, Any], landing: Landing | None) -> list[str]:
    """What a terminal shows of an upload (with its landing, if it made one) or of a load."""
    kind = event.get("activity-type")
    if kind == "CLOSE" and event.get("bytes-in") is not None:
        size, seconds = int(event["bytes-in"]), float(event.get("seconds") or 0)
        rate = f", {size_text(round(size / seconds))}/s" if size >= 1 << 20 and seconds else ""
        path = landing.path if landing is not None else event.get("path")
        line = f"{event.get('user')}  put {path}  {size_text(size)} in {seconds:.1f} s{rate}"
        if landing is None:
            return [line]
        where = f"  s3://{landing.bucket}/{landing.key}  receipt {landing.landing_id}"
        return [line, where]
    if kind != "LOAD":
        return []
    trouble = f"  {event['errors-seen']} errors" if event["errors-seen"] else ""
    rows = f"{event['rows-loaded']} rows → {event['table']}"
    lines = [f"  {event['status']}  {rows}{trouble}  receipt {event['landing-id']}"]
    return [*lines, f"    {event['message']}"] if event.get("message") else lines


def _print_event(ledger: Ledger, event: dict[str, Any]) -> None:
    landing_id = event.get("landing-id") if event.get("activity-type") == "CLOSE" else None
    receipt = ledger.receipt(landing_id) if landing_id else None
    for line in live_lines(event, receipt.landing if receipt is not None else None):
        result(safe(line))


def _detach(folder: DataFolder, ready_file: Path | None) -> None:
    """Start the same command without ``-d`` in a session of its own, and wait until it is ready."""
    words = [word for word in sys.argv[1:] if word not in ("-d", "--detach")]
    ready = ready_file if ready_file is not None else folder.root / "ready.json"
    if ready_file is None:
        words += ["--ready-file", str(ready)]
    ready.unlink(missing_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with os.fdopen(os.open(folder.root / "up.out", flags, 0o600), "w+b") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "feedgate", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        while process.poll() is None and not ready.exists():
            time.sleep(0.02)
        output.seek(0)
        note(output.read().decode(errors="replace").rstrip())
    if process.returncode is not None:
        click.get_current_context().exit(process.returncode)
    note(f"running in the background (pid {process.pid}); stop it with `feedgate down`")
