"""The children of ``feedgate up``: ``python -m feedgate.cli.processes worker|loader …``.

Here the SFTP door meets the gateway: the gateway may not import a door, so the composition is done
above both. Libraries are imported before the supervisor says ``start``, while it still renders.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feedgate.cli.output import on_terminal
from feedgate.gateway.crash import crash_switch
from feedgate.gateway.folder import DataFolder
from feedgate.gateway.process import Channel
from feedgate.telemetry import EventLog

if TYPE_CHECKING:
    from feedgate.files.deviations import Fidelity
    from feedgate.gateway.lifecycle import Door, Supervision
    from feedgate.gateway.login import GatewayLogin
    from feedgate.gateway.services import Services
    from feedgate.stack.resources import Server

__all__ = ["child_command", "main", "served_policy_name"]

# of a server that a template names none for (User Guide, security-policies)
_AWS_DEFAULT_POLICY = "TransferSecurityPolicy-2018-11"


def child_command(folder: DataFolder, listen_host: str, options: list[str]) -> list[str]:
    """The argv of a child; ``options`` are its role, its file descriptor, and so on."""
    return [
        sys.executable,
        "-m",
        "feedgate.cli.processes",
        *options,
        "--data",
        str(folder.root),
        "--listen-host",
        listen_host,
        *(["--events"] if on_terminal() else []),
    ]


def main() -> None:
    """Run one child until its supervisor says so, or is gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=("worker", "loader"))
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--listen-host", required=True)
    parser.add_argument("--like-aws", action="store_true")
    parser.add_argument("--events", action="store_true", help="tell the supervisor each upload")
    options = parser.parse_args()
    os.umask(0o077)  # whatever a library creates in the data folder is its owner's alone
    folder = DataFolder(options.data)
    log = EventLog.file(folder.log_file, now=time.time)
    crash_at = crash_switch(
        folder.test_marker, [options.listen_host], os.environ.get("FEEDGATE_CRASH_AT")
    )
    channel = Channel.inherited(options.fd, wants_events=options.events)

    def open_services() -> Services:
        from feedgate.gateway.services import Services, audit_to

        return Services(
            folder,
            log,
            crash_at=crash_at,
            audit=audit_to(folder.audit_file, time.time),
            like_aws=options.like_aws,
        )

    run = _run_worker if options.role == "worker" else _run_loader
    run(channel, open_services)


def _run_worker(channel: Channel, open_services: object) -> None:
    import uvloop

    import feedgate.sftp.server  # noqa: F401 - loaded while the supervisor still renders
    from feedgate.gateway.services import Services  # noqa: F401
    from feedgate.gateway.worker import run_worker

    uvloop.run(run_worker(channel, open_services, _sftp_door))  # type: ignore[arg-type]


def _sftp_door(
    services: Services, login: GatewayLogin, supervision: Supervision, options: Mapping[str, Any]
) -> Door:
    from feedgate.sftp.hostkeys import HostKeyWatch
    from feedgate.sftp.server import SftpDoor

    server, fidelity = services.stack.server, services.fidelity
    host_keys = HostKeyWatch(services.folder.hostkeys)
    return SftpDoor(
        host_keys=host_keys.private_keys() or (),
        host_key_changes=host_keys.private_keys,
        security_policy_name=served_policy_name(server, fidelity),
        login=login,
        log=services.log,
        server_arn=server.arn,
        banner=server.pre_authentication_login_banner,
        server_version="feedgate" if fidelity.ours("banner") else "AWS_SFTP_1.2",
        fidelity=fidelity,
        on_event=services.on_event,
        supervision=supervision,
        **options,
    )


def served_policy_name(server: Server, fidelity: Fidelity) -> str:
    """The security policy of the door: the server's, unless AWS does not know that name."""
    from feedgate.stack.properties import OWN_SECURITY_POLICIES

    policy = server.security_policy_name
    if not fidelity.ours("security-policy") and policy in OWN_SECURITY_POLICIES:
        return _AWS_DEFAULT_POLICY
    return policy


def _run_loader(channel: Channel, open_services: object) -> None:
    from feedgate.gateway.loading import run_loader

    run_loader(channel, open_services)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
