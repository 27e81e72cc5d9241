"""What an author gets from `init` and `render`."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from feedgate.cli.author import render, write_example
from feedgate.errors import Conflict


def test_init_never_writes_over_anything(tmp_path: Path) -> None:
    """One file in the way, and nothing is written; it is named."""
    (tmp_path / "policy.txt").write_text("mine")
    with pytest.raises(Conflict, match=r"policy\.txt"):
        write_example(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["policy.txt"]
    assert (tmp_path / "policy.txt").read_text() == "mine"


def test_the_key_of_init_is_a_secret_that_works(tmp_path: Path) -> None:
    """The private key is readable by its owner alone, ignored by git, and ssh-keygen reads it."""
    (tmp_path / ".gitignore").write_text("*.log\n")
    write_example(tmp_path)
    key = tmp_path / "mysftpkey"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert {"*.log", "mysftpkey", ".feedgate/"} <= set(
        (tmp_path / ".gitignore").read_text().split()
    )
    public = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(key)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert " ".join(public[:2]) in (tmp_path / "users.json").read_text()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("template.yaml", "Resources:\n  A: {Type: 'AWS::S3::Bucket'} # kept\n"),
        ("template.json", '{"Resources": {"A": {"Ref": "B"}}}'),
    ],
)
def test_render_prints_a_plain_template_as_it_stands(tmp_path: Path, name: str, text: str) -> None:
    """JSON and YAML come out byte for byte, references and comments included."""
    (tmp_path / name).write_text(text)
    assert CliRunner().invoke(render, [str(tmp_path)]).stdout == text
