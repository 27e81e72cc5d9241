"""Each cause for which a supplier cannot connect, provoked by a real client on a real gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncssh
import paramiko
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import hashes

from feedgate.cli.diagnosis import NO_CONNECTION, NOT_RUNNING, POLICY_DENIES, distance
from feedgate.cli.evidence import Facts, is_mended
from feedgate.cli.main import cli
from feedgate.cli.remedies import explained
from feedgate.database import Database
from feedgate.errors import UsageError
from feedgate.gateway.definition import DefinitionStore
from feedgate.gateway.folder import DataFolder
from feedgate.gateway.services import open_database
from feedgate.identity.logins import LoginRecord, LoginStore
from feedgate.identity.passwords import hash_password
from feedgate.identity.refusals import RefusalCause
from feedgate.identity.rows import user_like
from feedgate.identity.store import UserStore
from feedgate.identity.users import Password, parse_public_key

pytestmark = pytest.mark.integration

REFUSED_ADDRESS = "127.0.1.99"
PASSWORD = "a password for tests"


class Clinic:
    """A running gateway, suppliers' clients, and `feedgate doctor`."""

    def __init__(self, gateway: Any) -> None:
        self.gateway = gateway
        self.keys: Path = gateway.folder / "keys"
        self.open = contextlib.ExitStack()

    def key(self, name: str) -> Path:
        """A private key, made when it is first asked for."""
        path = self.keys / name
        if not path.exists():
            self.keys.mkdir(exist_ok=True)
            kind = ["-t", "rsa", "-b", "2048"] if name.startswith("rsa") else ["-t", "ed25519"]
            words = ["ssh-keygen", "-q", *kind, "-N", "", "-C", name, "-f", str(path)]
            subprocess.run(words, check=True)
        return path

    def public(self, name: str, options: str = "") -> str:
        """A line of authorized_keys."""
        return f"{options} {self.key(name).with_suffix('.pub').read_text()}".strip()

    def fingerprint(self, name: str) -> str:
        """As it is told."""
        return parse_public_key(self.public(name)).fingerprint

    # -- clients ----------------------------------------------------------------------------------

    def openssh(self, user: str, address: str, key: str | None, *options: str) -> int:
        """OpenSSH's sftp; its exit code."""
        words = self.gateway.sftp_command(self.key(key) if key is not None else Path("/dev/null"))
        for option in (f"BindAddress={address}", "BatchMode=yes", *options):
            words += ["-o", option]
        done = subprocess.run(
            [*words, "-b", "-", f"{user}@127.0.0.1"],
            input="ls\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        return done.returncode

    def socket(self, address: str) -> socket.socket:
        """A TCP connection from that address."""
        where = ("127.0.0.1", self.gateway.port)
        made = socket.create_connection(where, timeout=10, source_address=(address, 0))
        return self.open.enter_context(made)

    def paramiko(self, address: str) -> paramiko.Transport:
        """A connection on which nobody has logged in."""
        transport = paramiko.Transport(self.socket(address))
        transport.start_client(timeout=10)
        self.open.callback(transport.close)
        return transport

    def asyncssh(self, user: str, address: str, password: str) -> None:
        """asyncssh's client with a password, refused."""

        async def connect() -> None:
            await asyncssh.connect(
                "127.0.0.1",
                self.gateway.port,
                username=user,
                password=password,
                client_keys=None,
                agent_path=None,
                known_hosts=None,
                config=None,
                local_addr=(address, 0),
            )

        with pytest.raises((asyncssh.PermissionDenied, asyncssh.ConnectionLost)):
            asyncio.run(connect())

    # -- the operator -----------------------------------------------------------------------------

    def feedgate(self, *words: str) -> tuple[int, str]:
        """Exit code and stdout of a command."""
        done = CliRunner().invoke(cli, [*words, "--data", str(self.gateway.data)])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout

    def doctor(self, user: str, *words: str) -> dict[str, Any]:
        """What is told; its exit code says whether there is a cause."""
        code, text = self.feedgate("doctor", user, *words, "--json")
        found: dict[str, Any] = json.loads(text)
        assert code == (0 if found["ok"] else 1)
        assert found["ok"] is (found["cause"] is None)
        return found

    def logins(self, *words: str) -> list[dict[str, Any]]:
        """What is listed."""
        code, text = self.feedgate("logins", *words, "-n", "1000", "--json")
        assert code == 0
        found: list[dict[str, Any]] = json.loads(text)["logins"]
        return found

    @contextlib.contextmanager
    def users(self) -> Iterator[UserStore]:
        """The gateway's users."""
        with contextlib.closing(open_database(DataFolder(self.gateway.data))) as database:
            yield UserStore(database)

    def was_seen(self, case: Case) -> bool:
        """Whether what the case's client did is in the table."""
        if case.provoke is stay_away:
            return True
        with contextlib.closing(open_database(DataFolder(self.gateway.data))) as database:
            seen = LoginStore(database).list(source=ADDRESSES[case.name])
        wanted = {None} if case.cause == POLICY_DENIES else {case.cause}
        return bool(wanted & {record.cause for record in seen})


Provoke = Callable[[Clinic, str, str], object]


@dataclass(frozen=True)
class Case:
    """A user, what his client does, and what is told: the cause, and words of the answer.

    ``keys`` are names of SSH keys with their options. ``asks_address``: no user was named, so the
    operator says from where the supplier comes.
    """

    name: str
    provoke: Provoke
    cause: str
    told: tuple[str, ...]
    mend: str
    keys: Mapping[str, str] = field(default_factory=lambda: {"good": ""})
    tags: Mapping[str, str] = field(default_factory=dict)
    password: bool = False
    require_key: bool = False
    asks_address: bool = False

    def prepare(self, clinic: Clinic, users: UserStore) -> None:
        """Add the user."""
        model = users.get("jeffrey_aven")
        assert model is not None
        lines = tuple(clinic.public(key, options) for key, options in self.keys.items())
        users.add_live_user(replace(user_like(model.user, self.name, lines), tags=self.tags))
        if self.password:
            users.set_password(self.name, Password(hash_password(PASSWORD), self.require_key))


def refused(*options: str, key: str | None = "good", name: str | None = None) -> Provoke:
    """OpenSSH's client, which does not get in."""

    def provoke(clinic: Clinic, user: str, address: str) -> None:
        assert clinic.openssh(name or user, address, key, *options) != 0

    return provoke


def says(data: bytes) -> Provoke:
    """A raw socket that says that and hangs up."""

    def provoke(clinic: Clinic, _user: str, address: str) -> None:
        with clinic.socket(address) as plain:
            plain.sendall(data)

    return provoke


def gives_password(password: str) -> Provoke:
    """asyncssh's client."""
    return lambda clinic, user, address: clinic.asyncssh(user, address, password)


def signs_with_sha1(clinic: Clinic, user: str, address: str) -> None:
    """A client as they were before 2016."""

    class OldKey(paramiko.RSAKey):  # type: ignore[misc]
        HASHES = {**paramiko.RSAKey.HASHES, "ssh-rsa": hashes.SHA1}  # noqa: RUF012

        def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> paramiko.Message:
            return super().sign_ssh_data(data, "ssh-rsa")

    transport = clinic.paramiko(address)
    with pytest.raises(paramiko.AuthenticationException):
        transport.auth_publickey(user, OldKey.from_private_key_file(str(clinic.key("rsa"))))
    transport.close()


def signs_with_another_key(clinic: Clinic, user: str, address: str) -> None:
    """A client whose public key file is not that of its private key."""
    shown = paramiko.Ed25519Key.from_private_key_file(str(clinic.key("good")))
    other = paramiko.Ed25519Key.from_private_key_file(str(clinic.key("stray")))
    shown.sign_ssh_data = other.sign_ssh_data
    transport = clinic.paramiko(address)
    with pytest.raises(paramiko.AuthenticationException):
        transport.auth_publickey(user, shown)
    transport.close()


def too_many(clinic: Clinic, user: str, address: str) -> None:
    """One connection more than a user may have."""
    key = paramiko.Ed25519Key.from_private_key_file(str(clinic.key("good")))
    for _ in range(2):
        clinic.paramiko(address).auth_publickey(user, key)
    with contextlib.suppress(paramiko.SSHException, EOFError):  # or it is in, and out again
        clinic.paramiko(address).auth_publickey(user, key)


def too_often(clinic: Clinic, user: str, address: str) -> None:
    """Wrong keys, all at once, and then one more connection."""
    key = paramiko.Ed25519Key.from_private_key_file(str(clinic.key("stray")))
    transports = [clinic.paramiko(address) for _ in range(12)]
    for transport in transports:
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_publickey(user, key)
        transport.close()

    def is_refused() -> bool:
        with clinic.socket(address) as plain, contextlib.suppress(ConnectionError):
            return plain.recv(8) == b""
        return True

    clinic.gateway.wait_for(is_refused)


def stay_away(_clinic: Clinic, _user: str, _address: str) -> None:
    """Do nothing."""


OLD_KEX = "KexAlgorithms=diffie-hellman-group14-sha1"
CASES = (
    Case("stays_away", stay_away, "no-connection", ("listens on 127.0.0.1",), "--listen 0.0.0.0:"),
    Case(
        "blocked_site",
        lambda clinic, _user, _address: refused()(clinic, "blocked_site", REFUSED_ADDRESS),
        "address-refused",
        (REFUSED_ADDRESS, "`127.0.1.99/32`", "feedgate:deniedCidrs", "`TransferServer`"),
        "feedgate apply",
        asks_address=True,
    ),
    Case(
        "old_kex",
        refused(OLD_KEX),
        "no-common-algorithm",
        ("no kex algorithm", "diffie-hellman-group14-sha1", "`TransferSecurityPolicy-2018-11`"),
        "SecurityPolicyName: TransferSecurityPolicy-2018-11",
        asks_address=True,
    ),
    Case(
        "old_cipher",
        refused("Ciphers=chacha20-poly1305@openssh.com"),
        "no-common-algorithm",
        ("no cipher algorithm", "`TransferSecurityPolicy-2020-06` would admit it"),
        "SecurityPolicyName: TransferSecurityPolicy-2020-06",
        asks_address=True,
    ),
    Case(
        "ancient_kex",
        refused("KexAlgorithms=diffie-hellman-group1-sha1"),
        "no-common-algorithm",
        ("no kex algorithm", "diffie-hellman-group1-sha1"),
        "no security policy admits this one",
        asks_address=True,
    ),
    Case(
        "only_ecdsa",
        refused("HostKeyAlgorithms=ecdsa-sha2-nistp384"),
        "no-common-algorithm",
        ("no host key algorithm", "ecdsa-sha2-nistp384"),
        "feedgate hostkey add FILE",
        asks_address=True,
    ),
    Case(
        "web_browser",
        says(b"GET / HTTP/1.1\r\n\r\n"),
        "no-handshake",
        ("spoke no SSH",),
        "SFTP",
        asks_address=True,
    ),
    Case(
        "mistypes_it",
        refused(name="mistipes_it"),
        "unknown-user",
        ("`mistipes_it`", "nobody's name"),
        "his user name is `mistypes_it`",
    ),
    Case(
        "new_laptop",
        refused(key="stray"),
        "key-not-on-file",
        ("key SHA256:", "is not on file"),
        "feedgate user key add new_laptop FILE.pub",
    ),
    Case(
        "wrong_desk",
        refused(key="of_desk"),
        "key-not-on-file",
        ("it is `desk`'s",),
        "log in as `desk`",
    ),
    Case("keyless", refused(), "key-not-on-file", ("neither",), "user key add keyless", keys={}),
    Case(
        "old_key",
        refused(key="old"),
        "key-expired",
        ("has expired", 'expiry-time="20200101"'),
        "feedgate user key add old_key FILE.pub",
        keys={"old": 'expiry-time="20200101"', "other": ""},
    ),
    Case(
        "travels",
        refused(),
        "key-address-refused",
        ("may not be used from 127.0.1.", 'from="192.0.2.0/24"'),
        "feedgate apply",
        keys={"good": 'from="192.0.2.0/24"'},
    ),
    Case(
        "disabled_one",
        refused(),
        "user-disabled",
        ("disabled",),
        "feedgate user enable disabled_one",
    ),
    Case(
        "past_contract",
        refused(),
        "user-expired",
        ("2020-01-01", "feedgate:expiresAt"),
        "feedgate apply",
        tags={"feedgate:expiresAt": "2020-01-01"},
    ),
    Case(
        "moved_office",
        refused(),
        "user-address-refused",
        ("not in `192.0.2.0/24`", "feedgate:allowedCidrs", "`moved_office`"),
        "feedgate apply",
        tags={"feedgate:allowedCidrs": "192.0.2.0/24"},
    ),
    Case(
        "signs_sha1",
        signs_with_sha1,
        "signature-algorithm-refused",
        ("`ssh-rsa` (SHA-1)", "`TransferSecurityPolicy-2025-03`"),
        "ssh-keygen -t ed25519",
        keys={"rsa": ""},
    ),
    Case("mixed_keys", signs_with_another_key, "signature-invalid", ("pair",), "ssh-keygen -yf"),
    Case(
        "knows_no_key",
        refused("PubkeyAcceptedAlgorithms=ssh-rsa", key="rsa"),
        "no-login",
        ("offered no key", "`ssh-rsa` (SHA-1)"),
        "sftp -i KEY knows_no_key@HOST",
        keys={"rsa": ""},
    ),
    Case(
        "forgetful",
        gives_password("not that password"),
        "wrong-password",
        ("password was wrong",),
        "feedgate user password forgetful",
        password=True,
    ),
    Case(
        "has_no_password",
        gives_password(PASSWORD),
        "wrong-password",
        ("has none",),
        "feedgate user password has_no_password",
    ),
    Case(
        "half_way",
        refused(),
        "second-factor-missing",
        ("password never came",),
        "feedgate user password half_way",
        password=True,
        require_key=True,
    ),
    Case("eager", too_many, "too-many-of-user", ("connections",), "--max-connections-per-user"),
    Case("no_role", refused(), "role-refused", ("arn:aws:iam::1:role/nobody",), "feedgate explain"),
    Case(
        "no_kms",
        lambda clinic, user, address: clinic.openssh(
            user, address, "good"
        ),  # 0, after a refused ls
        "policy-denies",
        ("he gets in", "cannot ls"),
        "kms:Decrypt",
    ),
    Case(
        "hammers",
        too_often,
        "rate-limited",
        ("too often", "until 20"),
        "feedgate logins --lift 127.0.1.",
    ),
)
ADDRESSES = {case.name: f"127.0.1.{number}" for number, case in enumerate(CASES, 1)}
ADDRESSES["blocked_site"] = REFUSED_ADDRESS


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory, gateway_class: Any) -> Iterator[Clinic]:
    """A gateway on which every client above has tried."""
    gateway = gateway_class(tmp_path_factory.mktemp("clinic"))
    gateway.init()
    server = gateway.stack / "includes" / "transferserver.libsonnet"
    tag = f"{{ Key: 'feedgate:deniedCidrs', Value: '{REFUSED_ADDRESS}/32' }},"
    server.write_text(server.read_text().replace("Tags: tags + [", f"Tags: tags + [ {tag}"))
    assert gateway.feedgate("apply").returncode == 0
    clinic = Clinic(gateway)
    desk = Case("desk", stay_away, "", (), "", keys={"of_desk": ""})
    with clinic.users() as users:
        for case in (*CASES, desk):
            case.prepare(clinic, users)
        users.set_enabled("disabled_one", False)
        users.set_property("no_role", "role_arn", "arn:aws:iam::1:role/nobody")
        policy = json.loads((gateway.stack / "policy.txt").read_text())
        policy["Statement"] = [{**one, "Resource": "*"} for one in policy["Statement"][:2]]
        users.set_property("no_kms", "policy", json.dumps(policy).replace("${!", "${"))
    gateway.start("--max-auth-failures", "3", "--max-connections-per-user", "2", "--workers", "1")
    try:
        with clinic.open:
            for case in CASES:
                case.provoke(clinic, case.name, ADDRESSES[case.name])
            gateway.wait_for(lambda: all(map(clinic.was_seen, CASES)))
        yield clinic
    finally:
        if gateway.process.poll() is None:
            gateway.stop()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_cause(clinic: Clinic, case: Case) -> None:
    """The doctor states the cause, what it is about, and what mends it."""
    address = ADDRESSES[case.name]
    found = clinic.doctor(case.name, *(["--from", address] if case.asks_address else []))
    assert found["cause"] == case.cause, found
    text = " ".join([found["summary"], *found["notes"]])
    for words in case.told:
        assert words in text
    assert any(case.mend in step for step in found["mend"]), found
    if case.cause in ("key-not-on-file", "signature-invalid") and case.keys:
        key = {"new_laptop": "stray", "wrong_desk": "of_desk", "mixed_keys": "good"}[case.name]
        assert clinic.fingerprint(key) in text


def test_what_is_printed(clinic: Clinic) -> None:
    """A person reads the cause, what was seen, and the command to paste."""
    code, text = clinic.feedgate("doctor", "new_laptop")
    assert code == 1
    lines = text.splitlines()
    stray = clinic.fingerprint("stray")
    assert lines[0] == "new_laptop: key-not-on-file"
    assert lines[1] == f"  key {stray} is not on file"
    assert lines[2].startswith("  seen: ")
    assert f"at {ADDRESSES['new_laptop']}, client SSH-2.0-OpenSSH" in lines[2]
    assert lines[3] == f"  on file: {clinic.fingerprint('good')}"
    assert lines[4] == "to mend it:"
    assert lines[-1] == "  feedgate user key add new_laptop FILE.pub"


def test_a_name_that_is_not_there(clinic: Clinic) -> None:
    """The operator's own mistake is met with the nearest name, and its tries are shown."""
    found = clinic.doctor("mistipes_it")
    assert found["cause"] == "unknown-user"
    assert "nearest name is `mistypes_it`" in found["summary"]
    assert found["seen"]["source_ip"] == ADDRESSES["mistypes_it"]
    assert found["mend"][-1] == "feedgate user add mistipes_it --key FILE.pub"
    assert distance("Jeffery_aven", "jeffrey_aven") == 2
    assert distance("", "abc") == 3


def test_who_it_might_be(clinic: Clinic) -> None:
    """Without an address, refusals from addresses that are nobody's are offered."""
    found = clinic.doctor("old_kex")
    assert found["cause"] == "no-connection"
    where = f"feedgate doctor old_kex --from {ADDRESSES['old_kex']}"
    assert any(where in note for note in [*found["notes"], ""]) or len(found["notes"]) == 5


def test_mended_by_the_command(clinic: Clinic) -> None:
    """After the command that was named the answer is `mended`, and after a login it is `ok`."""
    with clinic.users() as users:
        users.add_key("new_laptop", clinic.public("stray"))
    found = clinic.doctor("new_laptop")
    assert found["ok"]
    assert "mended since" in found["summary"]
    address = ADDRESSES["new_laptop"]
    clinic.gateway.wait_for(lambda: clinic.openssh("new_laptop", address, "stray") == 0)
    clinic.gateway.wait_for(lambda: "last login" in clinic.doctor("new_laptop")["summary"])


def test_a_penalty_is_lifted(clinic: Clinic) -> None:
    """Who failed too often gets in once the operator says so; until then the wrong key is told."""
    address = ADDRESSES["hammers"]
    found = clinic.doctor("hammers")
    assert any("before that: key" in note for note in found["notes"])
    assert clinic.openssh("hammers", address, "good") != 0
    code, _text = clinic.feedgate("logins", "--lift", address)
    assert code == 0
    clinic.gateway.wait_for(lambda: clinic.openssh("hammers", address, "good") == 0)
    clinic.gateway.wait_for(lambda: clinic.doctor("hammers")["ok"])


def test_logins_are_listed(clinic: Clinic) -> None:
    """By user, refused ones alone, and since a time; those of one kind are one line."""
    every = clinic.logins()
    assert {item["outcome"] for item in every} == {"logged-in", "refused"}
    failed = clinic.logins("--failed", "--since", "1h")
    assert {item["outcome"] for item in failed} == {"refused"}
    assert clinic.logins("--failed", "--since", "0s") == []
    wrong = clinic.logins("--user", "hammers", "--failed")
    [line] = [item for item in wrong if item["cause"] == "key-not-on-file"]
    assert line["count"] > 3
    assert line["source_ip"] == ADDRESSES["hammers"]
    assert line["fingerprints"] == [clinic.fingerprint("stray")]
    assert line["client_version"].startswith("SSH-2.0-paramiko")
    code, text = clinic.feedgate("logins", "-n", "3")
    assert code == 0
    assert len(text.splitlines()) == 4
    for words in (["--since", "soon"], ["--lift", "nowhere"]):
        with pytest.raises(UsageError):
            cli(["logins", *words, "--data", str(clinic.gateway.data)], standalone_mode=False)


def facts_of(clinic: Clinic, database: Database, user: str) -> Facts:
    """What is known, as of a gateway that started at second 10."""
    applied = DefinitionStore(database).applied()
    assert applied is not None
    return Facts(
        user_name=user,
        users={found.user_name: found for found in UserStore(database).list()},
        was_removed=False,
        definition=applied,
        store=LoginStore(database),
        running={"started_at": 10.0},
        host_keys=clinic.gateway.data / "hostkeys",
        address=None,
        now=20.0,
    )


def test_each_cause_has_a_remedy(clinic: Clinic) -> None:
    """Also those that no client here provoked: one line, and what to do."""
    with contextlib.closing(open_database(DataFolder(clinic.gateway.data))) as database:
        facts = facts_of(clinic, database, "eager")
        for cause in RefusalCause:
            record = LoginRecord(cause, "::", "eager", "::", 1, 1.0, 1.0)
            remedy = explained(facts, record)
            assert remedy.summary
            assert remedy.mend
            assert "\n" not in remedy.summary


def test_a_policy_that_waits_for_a_restart(clinic: Clinic) -> None:
    """A security policy is served from the next start on; until then the client stays out."""
    with contextlib.closing(open_database(DataFolder(clinic.gateway.data))) as database:
        facts = facts_of(clinic, database, "eager")
        before = LoginRecord(
            RefusalCause.NO_COMMON_ALGORITHM,
            *("::", "", "::", 1, 5.0, 5.0),
            detail="kex: curve25519-sha256,ext-info-c; host key: ssh-ed25519; cipher: aes256-ctr",
        )
        assert is_mended(facts, before)
        after = replace(before, last_at=15.0)
        assert not is_mended(facts, after)
        assert explained(facts, after).mend == ("feedgate down && feedgate up -d",)
        keys = replace(after, detail="host key: ssh-ed25519; kex: curve25519-sha256")
        assert is_mended(facts, keys)
        strange = replace(after, detail="kex: x,y; junk; : ; cipher: ")
        assert not is_mended(facts, strange)
        assert "no security policy admits" in explained(facts, strange).mend[0]


def test_nothing_runs_and_nothing_is_forgotten(clinic: Clinic) -> None:
    """A gateway that does not run is the cause of all; what it saw is there after a restart."""
    seen = len(clinic.logins())
    assert clinic.gateway.stop() == 0
    assert clinic.doctor("new_laptop")["cause"] == "not-running"
    assert len(clinic.logins()) == seen


def test_the_page_names_every_cause() -> None:
    """The documentation has a row for each cause that the doctor can state."""
    page = Path(__file__).parents[2] / "docs" / "when-a-supplier-cannot-connect.md"
    rows = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row.split("|")[1])}
    assert named == {*RefusalCause, NOT_RUNNING, NO_CONNECTION, POLICY_DENIES}
