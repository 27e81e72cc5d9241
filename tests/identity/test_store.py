"""Users in a real database: template rows, live changes, drift."""

from __future__ import annotations

import base64
import hashlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from feedgate.database import Database
from feedgate.errors import Conflict, DefinitionError, NotFound, UsageError
from feedgate.identity.store import MIGRATIONS, UserStore
from feedgate.identity.users import parse_public_key
from feedgate.stack.resources import HomeDirectoryMapping, User


def key_line(name: str) -> str:
    """A well-formed Ed25519 public key line whose bytes come from ``name``."""
    kind = b"ssh-ed25519"
    point = hashlib.sha256(name.encode()).digest()
    blob = len(kind).to_bytes(4, "big") + kind + len(point).to_bytes(4, "big") + point
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} {name}"


def user(name: str, *keys: str, **changes: object) -> User:
    """A template user with these keys, and properties changed."""
    made = User(
        logical_id=name.title(),
        user_name=name,
        arn=f"arn:aws:transfer:us-east-1:000000000000:user/s-01234567890abcdef/{name}",
        role_arn="arn:aws:iam::000000000000:role/transfer",
        home_directory_type="LOGICAL",
        home_directory_mappings=(HomeDirectoryMapping("/", f"/landing/{name}"),),
        policy='{"Version": "2012-10-17", "Statement": []}',
        ssh_public_keys=tuple(key_line(key) for key in keys),
        tags={"team": "feeds"},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


class Gateway:
    """A store over a data folder that can be reopened, as a killed process would find it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open()

    def open(self) -> None:
        self.database = Database(self.folder)
        self.database.migrate(MIGRATIONS)
        self.users = UserStore(self.database)

    def reopen(self) -> None:
        self.database.close()
        self.open()

    def apply(self, *users: User) -> bool:
        template = {each.user_name: each for each in users}
        return self.database.write_now(lambda tx: self.users.apply_template(tx, template))

    def keys(self, name: str) -> set[str]:
        found = self.users.get(name)
        assert found is not None
        return {key.comment for key in found.ssh_public_keys}

    def fingerprint(self, name: str, comment: str) -> str:
        found = self.users.get(name)
        assert found is not None
        return next(key.fingerprint for key in found.ssh_public_keys if key.comment == comment)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A fresh data folder and its users."""
    made = Gateway(tmp_path)
    yield made
    made.database.close()


def test_template_user_is_served_as_defined(gateway: Gateway) -> None:
    """What the template says comes back unchanged, but for its place in the file."""
    defined = user("acme", "laptop")
    gateway.apply(defined)
    served = gateway.users.get("acme")
    assert served is not None
    assert served.user == defined
    assert served.enabled
    assert served.origin == "template"
    assert [key.comment for key in served.ssh_public_keys] == ["laptop"]
    assert gateway.users.get("nobody") is None


def test_unchanged_template_changes_nothing(gateway: Gateway) -> None:
    """A second application of the same template leaves the generation alone."""
    assert gateway.apply(user("acme", "laptop"))
    before = gateway.users.generation()
    assert not gateway.apply(user("acme", "laptop"))
    assert gateway.users.generation() == before


def test_key_removed_live_stays_removed(gateway: Gateway) -> None:
    """An unchanged template after a restart does not let a removed key in again."""
    gateway.apply(user("acme", "laptop", "server"))
    gateway.users.remove_key("acme", gateway.fingerprint("acme", "laptop"))
    gateway.reopen()
    gateway.apply(user("acme", "laptop", "server"))
    assert gateway.keys("acme") == {"server"}


def test_key_removed_live_outlives_kill_9(gateway: Gateway) -> None:
    """A removal that returned is on disk: a process killed right after it changes nothing."""
    gateway.apply(user("acme", "laptop", "server"))
    fingerprint = gateway.fingerprint("acme", "laptop")
    gateway.database.close()
    script = (
        "import os, pathlib, signal, sys\n"
        "from feedgate.database import Database\n"
        "from feedgate.identity.store import UserStore\n"
        "users = UserStore(Database(pathlib.Path(sys.argv[1])))\n"
        "users.remove_key('acme', sys.argv[2])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, str(gateway.folder), fingerprint], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    gateway.open()
    gateway.apply(user("acme", "laptop", "server"))
    assert gateway.keys("acme") == {"server"}


def test_another_key_does_not_revive_a_removed_one(gateway: Gateway) -> None:
    """The template adding a key touches that key only, as CloudFormation's difference does."""
    gateway.apply(user("acme", "laptop"))
    gateway.users.remove_key("acme", gateway.fingerprint("acme", "laptop"))
    gateway.apply(user("acme", "laptop", "server"))
    assert gateway.keys("acme") == {"server"}


def test_template_that_drops_and_names_a_key_again_revives_it(gateway: Gateway) -> None:
    """A removed key comes back once the template itself has dropped and added it."""
    gateway.apply(user("acme", "laptop", "server"))
    gateway.users.remove_key("acme", gateway.fingerprint("acme", "laptop"))
    gateway.apply(user("acme", "server"))
    gateway.apply(user("acme", "laptop", "server"))
    assert gateway.keys("acme") == {"laptop", "server"}


def test_live_key_survives_template_changes(gateway: Gateway) -> None:
    """A key added live stays while the template changes other keys and properties."""
    gateway.apply(user("acme", "laptop"))
    gateway.users.add_key("acme", key_line("phone"))
    gateway.apply(user("acme", "server", role_arn="arn:aws:iam::000000000000:role/other"))
    assert gateway.keys("acme") == {"phone", "server"}


def test_removed_template_key_can_be_added_back_live(gateway: Gateway) -> None:
    """Adding the removed key again undoes its removal and leaves no drift."""
    gateway.apply(user("acme", "laptop"))
    gateway.users.remove_key("acme", gateway.fingerprint("acme", "laptop"))
    gateway.users.add_key("acme", key_line("laptop"))
    assert gateway.keys("acme") == {"laptop"}
    assert gateway.users.drift() == []


@pytest.mark.parametrize("change", ["disable", "remove"])
def test_disabling_and_removal_outlive_restarts_and_changed_templates(
    gateway: Gateway, change: str
) -> None:
    """A user disabled or removed live stays so when other properties change in the template."""
    gateway.apply(user("acme", "laptop"))
    if change == "disable":
        gateway.users.set_enabled("acme", False)
    else:
        gateway.users.remove("acme")
    gateway.reopen()
    gateway.apply(user("acme", "laptop", policy=None))
    served = gateway.users.get("acme")
    assert served is None if change == "remove" else served is not None and not served.enabled


def test_user_dropped_and_declared_again_is_new(gateway: Gateway) -> None:
    """The template dropping a user forgets every live change of it."""
    gateway.apply(user("acme", "laptop"))
    gateway.users.add_key("acme", key_line("phone"))
    gateway.users.remove("acme")
    gateway.apply()
    gateway.apply(user("acme", "laptop"))
    assert gateway.keys("acme") == {"laptop"}
    assert gateway.users.drift() == []


def test_property_changed_live_holds_until_the_template_changes_it(gateway: Gateway) -> None:
    """A live role outlives a template change of the policy and yields to one of the role."""
    live, other = "arn:aws:iam::000000000000:role/live", "arn:aws:iam::000000000000:role/other"
    gateway.apply(user("acme"))
    gateway.users.set_property("acme", "role_arn", live)
    gateway.users.set_property(
        "acme", "home_directory_mappings", (HomeDirectoryMapping("/", "/landing/elsewhere"),)
    )
    gateway.apply(user("acme", policy=None))
    served = gateway.users.get("acme")
    assert served is not None
    assert served.user.role_arn == live
    assert served.user.home_directory_mappings[0].target == "/landing/elsewhere"
    gateway.apply(user("acme", policy=None, role_arn=other))
    served = gateway.users.get("acme")
    assert served is not None
    assert served.user.role_arn == other


def test_drift_names_every_live_change(gateway: Gateway) -> None:
    """Removal, disabling, keys and properties are listed with both values."""
    gateway.apply(user("acme", "laptop"), user("bolt"))
    gateway.users.remove_key("acme", gateway.fingerprint("acme", "laptop"))
    gateway.users.add_key("acme", key_line("phone"))
    gateway.users.set_enabled("acme", False)
    gateway.users.set_property("acme", "home_directory", "/in")
    gateway.users.remove("bolt")
    found = {
        (item.user_name, item.property, item.live.split()[-1]) for item in gateway.users.drift()
    }
    assert found == {
        ("acme", "Enabled", "false"),
        ("acme", "HomeDirectory", "/in"),
        ("acme", "SshPublicKeys", "removed"),
        ("acme", "SshPublicKeys", parse_public_key(key_line("phone")).fingerprint),
        ("bolt", "User", "removed"),
    }


def test_reset_drift_makes_the_template_true_again(gateway: Gateway) -> None:
    """After a reset the user is what the template says, keys and existence included."""
    gateway.apply(user("acme", "laptop"))
    gateway.users.add_key("acme", key_line("phone"))
    gateway.users.remove("acme")
    gateway.users.reset_drift("acme")
    assert gateway.keys("acme") == {"laptop"}
    assert gateway.users.drift() == []
    with pytest.raises(NotFound):
        gateway.users.reset_drift("nobody")


def test_live_user_copies_role_and_folders(gateway: Gateway) -> None:
    """A live user gets another user's role and policy, and folders called after itself."""
    gateway.apply(user("acme", "laptop"))
    gateway.users.add_live("bolt", [key_line("desk")], like="acme")
    served = gateway.users.get("bolt")
    assert served is not None
    assert served.origin == "live"
    assert served.user.home_directory_mappings == (HomeDirectoryMapping("/", "/landing/bolt"),)
    assert served.user.arn.endswith("/bolt")
    assert gateway.keys("bolt") == {"desk"}
    gateway.apply(user("acme", "laptop"))
    assert [each.user_name for each in gateway.users.list()] == ["acme", "bolt"]


def test_template_adopts_a_live_user(gateway: Gateway) -> None:
    """A template that declares a live user's name takes it over; its live keys stay, as drift."""
    gateway.users.add_live_user(user("bolt", "desk"))
    gateway.apply(user("bolt", "server"))
    served = gateway.users.get("bolt")
    assert served is not None
    assert served.origin == "template"
    assert gateway.keys("bolt") == {"desk", "server"}
    assert [item.property for item in gateway.users.drift()] == ["SshPublicKeys"]


def test_live_user_removal_leaves_nothing(gateway: Gateway) -> None:
    """A removed live user can be added anew without its old keys."""
    gateway.users.add_live_user(user("bolt", "desk"))
    gateway.users.remove("bolt")
    gateway.users.add_live_user(user("bolt", "server"))
    assert gateway.keys("bolt") == {"server"}


def test_each_change_raises_the_generation_once(gateway: Gateway) -> None:
    """Every kind of change is seen by whoever polls the generation; a no-op is not."""
    gateway.apply(user("acme", "laptop"))
    generations = [gateway.users.generation()]
    for change in (
        lambda: gateway.users.add_key("acme", key_line("phone")),
        lambda: gateway.users.remove_key("acme", gateway.fingerprint("acme", "phone")),
        lambda: gateway.users.set_enabled("acme", False),
        lambda: gateway.users.set_property("acme", "policy", None),
        lambda: gateway.users.reset_drift("acme"),
        lambda: gateway.users.add_live_user(user("bolt")),
        lambda: gateway.users.remove("bolt"),
        lambda: gateway.users.remove("acme"),
    ):
        change()
        generations.append(gateway.users.generation())
    assert generations == list(range(1, 10))


def test_refused_change_leaves_the_generation(gateway: Gateway) -> None:
    """Unknown users, unknown keys, doubled keys and doubled users are refused without a trace."""
    gateway.apply(user("acme", "laptop"))
    before = gateway.users.generation()
    with pytest.raises(NotFound):
        gateway.users.remove_key("acme", "SHA256:absent")
    with pytest.raises(NotFound):
        gateway.users.add_key("nobody", key_line("phone"))
    with pytest.raises(Conflict):
        gateway.users.add_key("acme", key_line("laptop"))
    with pytest.raises(Conflict):
        gateway.users.add_live_user(user("acme"))
    gateway.users.set_enabled("acme", True)
    assert gateway.users.generation() == before


def test_live_user_cannot_take_a_removed_template_users_name(gateway: Gateway) -> None:
    """A template user that was removed live is brought back by name only, not by a namesake."""
    gateway.apply(user("acme", "laptop"))
    gateway.users.remove("acme")
    with pytest.raises(Conflict, match="removed live"):
        gateway.users.add_live_user(user("acme", "evil"))


@pytest.mark.parametrize(
    "name", ["root", "ab", "..", "a/b", "acme\n", ".hidden", "ünal", "x" * 101]
)
def test_name_that_aws_refuses_is_refused(gateway: Gateway, name: str) -> None:
    """User names follow AWS Transfer's pattern, in live additions and in templates."""
    with pytest.raises(UsageError):
        gateway.users.add_live_user(user(name))
    with pytest.raises(DefinitionError):
        gateway.apply(user(name))


def test_template_with_bad_keys_is_refused_whole(gateway: Gateway) -> None:
    """Every bad key is named and nothing of the template is taken up."""
    with pytest.raises(DefinitionError) as refused:
        gateway.apply(
            user("acme", ssh_public_keys=("ssh-dss AAAA", "nonsense")),
            user("bolt", ssh_public_keys=("-----BEGIN OPENSSH PRIVATE KEY-----",)),
        )
    assert len(refused.value.findings) == 3
    assert gateway.users.list() == []


def test_what_is_given_to_a_removed_user_is_refused(gateway: Gateway) -> None:
    """Enabling, or a key, has no effect on a template's user removed live, so it is refused."""
    gateway.apply(user("acme", "laptop"))
    gateway.users.refuse_removed("acme")
    gateway.users.remove("acme")
    for change in (
        lambda: gateway.users.set_enabled("acme", True),
        lambda: gateway.users.add_key("acme", key_line("phone")),
        lambda: gateway.users.refuse_removed("acme"),
    ):
        with pytest.raises(Conflict) as refused:
            change()
        assert refused.value.hint == "`feedgate apply --reset-drift acme` brings him back"
