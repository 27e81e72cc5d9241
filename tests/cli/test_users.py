"""Users from the command line: what is said is what the gateway serves."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from feedgate.cli.author import make_ssh_key, write_example
from feedgate.cli.operate import Application
from feedgate.cli.users import user
from feedgate.errors import Conflict, DefinitionError, FeedgateError, NotFound
from feedgate.gateway.folder import DataFolder
from feedgate.gateway.reading import RunValues
from feedgate.gateway.services import open_database
from feedgate.identity.store import UserStore
from feedgate.identity.users import parse_public_key


class Operator:
    """A stack that was applied, and whoever types commands about it."""

    def __init__(self, stack: Path) -> None:
        self.stack = stack
        self.folder = DataFolder.create(stack / ".feedgate")
        self.database = open_database(self.folder)
        self.users = UserStore(self.database)

    def apply(self, *reset: str) -> None:
        outcome = Application(self.stack, RunValues(), reset_drift=reset).apply(
            self.folder, self.database
        )
        assert outcome.applied

    def run(self, *words: str) -> str:
        """Run `feedgate user …`; its output."""
        done = CliRunner().invoke(user, [*words, "--stack", str(self.stack)], standalone_mode=False)
        if done.exception is not None:
            raise done.exception
        return done.output

    def let_something_wait(self) -> None:
        """Take the table `events` out of the warehouse script, which waits for --yes."""
        path = self.stack / "warehouse.sql"
        script = path.read_text()
        for start in ("CREATE TABLE IF NOT EXISTS events", "CREATE PIPE IF NOT EXISTS events_pipe"):
            statement = script[script.index(start) :].split(";", 1)[0] + ";"
            script = script.replace(statement, "")
        path.write_text(script)

    def new_key(self, name: str) -> Path:
        """A new key pair; its public file."""
        make_ssh_key(self.stack / name, comment=name)
        return self.stack / f"{name}.pub"

    def keys(self, name: str) -> set[str]:
        """The comments of the keys with which a user may log in."""
        served = self.users.get(name)
        return {key.comment for key in served.ssh_public_keys} if served else set()


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    """The example stack, applied."""
    write_example(tmp_path / "landing")
    made = Operator(tmp_path / "landing")
    made.apply()
    return made


def test_changes_take_effect_while_something_waits(operator: Operator) -> None:
    """Keys and users change at once though a table's removal waits; what waits is told."""
    operator.let_something_wait()
    said = operator.run("key", "remove", "jeffrey_aven", str(operator.stack / "mysftpkey.pub"))
    assert "can no longer log in" in said
    assert "waits for --yes: Remove TABLE `LANDING.RAW.EVENTS`" in said
    assert operator.keys("jeffrey_aven") == set()
    operator.run("key", "add", "jeffrey_aven", str(operator.new_key("laptop")))
    assert operator.keys("jeffrey_aven") == {"laptop"}
    operator.run("add", "globex", "--key", str(operator.new_key("globex")))
    assert operator.keys("globex") == {"globex"}
    operator.run("remove", "acme_retail")
    assert operator.users.get("acme_retail") is None
    served = Application(operator.stack, RunValues(), yes=True)
    assert served.apply(operator.folder, operator.database).applied
    assert operator.users.drift() == []
    assert operator.keys("jeffrey_aven") == {"laptop"}
    assert [item.user_name for item in operator.users.list()] == ["globex", "jeffrey_aven"]


def test_a_user_with_a_role_that_waits_is_not_in_effect(operator: Operator) -> None:
    """A new user whose role was not applied could not work, so no success is reported."""
    operator.let_something_wait()
    template = operator.stack / "template.jsonnet"
    text = template.read_text()
    text = text.replace(
        "SnowflakeRole: import",
        "SecondRole: import 'includes/transferrole.libsonnet',\n    SnowflakeRole: import",
    )
    template.write_text(text)
    supplier = operator.stack / "includes" / "supplier.libsonnet"
    supplier.write_text(supplier.read_text().replace("'TransferRole'", "'SecondRole'"))
    role = operator.stack / "includes" / "transferrole.libsonnet"
    assert "RoleName" not in role.read_text()
    with pytest.raises(Conflict, match="NOT in effect: his role is new"):
        operator.run("add", "globex", "--key", str(operator.new_key("globex")))
    assert operator.users.get("globex") is None


def test_a_stack_with_a_fault_changes_nothing(operator: Operator) -> None:
    """A fault elsewhere leaves users.json as it was; --live revokes all the same."""
    before = (operator.stack / "users.json").read_text()
    (operator.stack / "warehouse.sql").write_text("CREATE NONSENSE;")
    with pytest.raises(DefinitionError):
        operator.run("remove", "jeffrey_aven")
    assert (operator.stack / "users.json").read_text() == before
    assert operator.users.get("jeffrey_aven") is not None
    assert "removed" in operator.run("remove", "jeffrey_aven", "--live")
    assert operator.users.get("jeffrey_aven") is None


def test_a_live_key_of_a_file_user_can_be_removed(operator: Operator) -> None:
    """A key that users.json does not know is taken out of the gateway; twice is refused."""
    phone = operator.new_key("phone")
    operator.run("key", "add", "jeffrey_aven", str(phone), "--live")
    assert operator.keys("jeffrey_aven") == {"jeffrey_aven", "phone"}
    operator.run("key", "remove", "jeffrey_aven", str(phone))
    assert operator.keys("jeffrey_aven") == {"jeffrey_aven"}
    with pytest.raises(NotFound):
        operator.run("key", "remove", "jeffrey_aven", str(phone))


def test_a_key_removed_live_comes_back(operator: Operator) -> None:
    """`key add` of a key that users.json holds and somebody removed live lets its owner in."""
    key = operator.stack / "mysftpkey.pub"
    fingerprint = parse_public_key(key.read_text()).fingerprint
    operator.run("key", "remove", "jeffrey_aven", fingerprint, "--live")
    assert operator.keys("jeffrey_aven") == set()
    assert "can log in" in operator.run("key", "add", "jeffrey_aven", str(key))
    assert operator.keys("jeffrey_aven") == {"jeffrey_aven"}
    with pytest.raises(Conflict):
        operator.run("key", "add", "jeffrey_aven", str(key))


def test_nothing_is_promised_to_a_user_removed_live(operator: Operator) -> None:
    """Key, enabling and adding name the next step, which brings him back."""
    operator.run("remove", "jeffrey_aven", "--live")
    laptop = str(operator.new_key("laptop"))
    for words in (
        ("key", "add", "jeffrey_aven", laptop),
        ("enable", "jeffrey_aven"),
        ("add", "jeffrey_aven"),
    ):
        with pytest.raises(Conflict) as refused:
            operator.run(*words)
        assert "feedgate apply --reset-drift jeffrey_aven" in (refused.value.hint or "")
    operator.apply("jeffrey_aven")
    operator.run("key", "add", "jeffrey_aven", laptop)
    assert operator.keys("jeffrey_aven") == {"jeffrey_aven", "laptop"}


def test_a_disabled_user_is_not_said_to_log_in(operator: Operator) -> None:
    """A key for a disabled user is taken, and he is said to be disabled."""
    operator.run("disable", "jeffrey_aven")
    said = operator.run("key", "add", "jeffrey_aven", str(operator.new_key("laptop")))
    assert "can log in" not in said
    assert "feedgate user enable jeffrey_aven" in said


def test_templates_folder(tmp_path: Path) -> None:
    """With `templates/template.jsonnet` users.json is found beside it, or in the stack's folder."""
    stack = tmp_path / "landing"
    write_example(stack)
    (stack / "templates").mkdir()
    for name in ("template.jsonnet", "users.json", "policy.txt", "includes"):
        (stack / name).rename(stack / "templates" / name)
    operator = Operator(stack)
    operator.apply()
    operator.run("remove", "acme_retail")
    assert "acme_retail" not in (stack / "templates" / "users.json").read_text()
    assert operator.users.get("acme_retail") is None
    (stack / "templates" / "users.json").rename(stack / "users.json")
    template = stack / "templates" / "template.jsonnet"
    template.write_text(template.read_text().replace("'users.json'", "'../users.json'"))
    operator.run("add", "globex", "--key", str(operator.new_key("globex")))
    assert "globex" in (stack / "users.json").read_text()
    assert operator.keys("globex") == {"globex"}


def test_a_json_template_has_no_users_file(operator: Operator, tmp_path: Path) -> None:
    """A template that imports nothing is not helped by users.json: --live is named."""
    stack = tmp_path / "plain"
    stack.mkdir()
    (stack / "template.json").write_text("{}")
    (stack / "users.json").write_text("[]")
    with pytest.raises(FeedgateError) as refused:
        CliRunner().invoke(
            user,
            ["add", "globex", "--stack", str(stack)],
            standalone_mode=False,
            catch_exceptions=False,
        )
    assert "--live" in (refused.value.hint or "")


def test_before_the_first_run(tmp_path: Path) -> None:
    """A stack that never ran is edited, and the success is said to come with `up`."""
    write_example(tmp_path)
    done = CliRunner().invoke(
        user, ["add", "globex", "--stack", str(tmp_path)], standalone_mode=False
    )
    assert done.exception is None
    assert "once `feedgate up` has run" in done.output
    assert "globex" in (tmp_path / "users.json").read_text()
