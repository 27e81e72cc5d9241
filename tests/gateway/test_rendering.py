"""Rendering: equal to the jsonnet program, bounded, confined, errors at the author's line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from feedgate import limits
from feedgate.errors import DefinitionError, Finding, NotFound, Source
from feedgate.gateway.rendering import find_template, render, render_template

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "landing"
MEMORY_BYTES = 256 * 1024 * 1024


def stack(folder: Path, template: str, **files: str) -> Path:
    """Write a stack folder; in a file's name `__` is `/` and `_dot_` is `.`."""
    (folder / "template.jsonnet").write_text(template)
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def refusal(path: Path, **bounds: float) -> Finding:
    """Render what must be refused and return the one finding."""
    with pytest.raises(DefinitionError) as caught:
        render(path, **bounds)  # type: ignore[arg-type]
    (finding,) = caught.value.findings
    return finding


@pytest.mark.skipif(shutil.which("jsonnet") is None, reason="Debian package jsonnet is missing")
@pytest.mark.parametrize(
    "template",
    [
        pytest.param("{ b: 1, a: [], c: {}, f: 1 / 3, g: 1e20, h: -0.0 }", id="numbers"),
        pytest.param('{ s: "é\\u0001\\n\\"", t: ||| \n  two\n  lines\n||| }', id="strings"),
        pytest.param(
            "[std.md5('x'), std.sort([3, 1, 2]), std.manifestYamlDoc({ a: 1 })]", id="std"
        ),
        pytest.param("'text'", id="a string"),
    ],
)
def test_text_equals_the_jsonnet_program(tmp_path: Path, template: str) -> None:
    """The rendered text is the jsonnet program's output, byte for byte."""
    stack(tmp_path, template)
    command = ["jsonnet", "template.jsonnet"]
    program = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert render_template(tmp_path / "template.jsonnet") == program.stdout.decode()


@pytest.mark.skipif(shutil.which("jsonnet") is None, reason="Debian package jsonnet is missing")
def test_example_equals_the_jsonnet_program() -> None:
    """The example renders to what `jsonnet template.jsonnet` prints, trailing newline included."""
    command = ["jsonnet", "template.jsonnet"]
    program = subprocess.run(command, cwd=EXAMPLE, capture_output=True, check=True)
    rendered = render(EXAMPLE)
    assert rendered.text == program.stdout.decode()
    assert rendered.text.endswith("}\n")
    assert json.loads(rendered.text)["Resources"]["TransferServer"]


def test_authored_files_are_named_from_the_stack_folder(tmp_path: Path) -> None:
    """What was read is reported by its name under the stack folder, with its text."""
    stack(
        tmp_path,
        "{ a: import 'includes/a.libsonnet', p: importstr 'policy.txt' }",
        includes__a_dot_libsonnet="{ b: import '../b.libsonnet' }",
        b_dot_libsonnet="1",
        policy_dot_txt="words",
    )
    rendered = render(tmp_path)
    assert json.loads(rendered.text) == {"a": {"b": 1}, "p": "words"}
    assert list(rendered.authored) == [
        "template.jsonnet",
        "includes/a.libsonnet",
        "b.libsonnet",
        "policy.txt",
    ]
    assert rendered.authored["policy.txt"] == "words"


def test_templates_folder_is_found_and_may_reach_its_parent(tmp_path: Path) -> None:
    """`templates/template.jsonnet` belongs to the folder above, by folder and by file."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "users.json").write_text("[1]")
    template = tmp_path / "templates" / "template.jsonnet"
    template.write_text("import '../users.json'")
    assert find_template(tmp_path) == template
    assert render(tmp_path).text == render(template).text == "[\n   1\n]\n"
    assert render(tmp_path).file == "templates/template.jsonnet"


@pytest.mark.parametrize("name", ["template.json", "template.yaml", "template.yml"])
def test_plain_templates_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    """JSON and YAML templates are found and not touched."""
    (tmp_path / name).write_text("{ }\n")
    rendered = render(tmp_path)
    assert (rendered.file, rendered.text, rendered.authored) == (name, "{ }\n", {})


def test_no_template_names_what_was_looked_for(tmp_path: Path) -> None:
    """An empty folder is refused with the names that would have been taken."""
    with pytest.raises(NotFound, match=r"template\.jsonnet, templates/template\.jsonnet"):
        render(tmp_path)


@pytest.mark.parametrize(
    ("template", "message", "place"),
    [
        pytest.param(
            "{\n  a: 1,\n  b: error 'no host name',\n}",
            "no host name",
            ("template.jsonnet", 3, 6),
            id="error",
        ),
        pytest.param("{\n  a: }", "", ("template.jsonnet", 2, 6), id="syntax"),
        pytest.param("{ a: nobody }", "nobody", ("template.jsonnet", 1, 6), id="unknown variable"),
        pytest.param(
            "{ a: import 'x.libsonnet' }",
            "field does not exist: y",
            ("x.libsonnet", 2, 6),
            id="import",
        ),
        pytest.param("{ a: std.length(1) }", "", ("template.jsonnet", 1, 6), id="within std"),
        pytest.param(
            "{\n a: std.extVar('secret') }", "secret", ("template.jsonnet", 2, 5), id="no extVar"
        ),
        pytest.param(
            "{\n a: importstr 'gone.txt' }",
            "cannot import `gone.txt`: no such file",
            ("template.jsonnet", 2, 5),
            id="missing file",
        ),
    ],
)
def test_errors_point_at_the_authors_line(
    tmp_path: Path, template: str, message: str, place: tuple[str, int, int]
) -> None:
    """Jsonnet's error becomes a finding with the author's file, line and column."""
    finding = refusal(stack(tmp_path, template, x_dot_libsonnet="{\n  b: {}.y }"))
    assert finding.source == Source(*place)
    assert message in finding.message
    assert "\n" not in finding.message
    assert not finding.message.endswith(".")


@pytest.mark.parametrize(
    ("include", "message", "place"),
    [
        pytest.param("{ a: 1 b: 2 }", "expected a comma before next field", (1, 8), id="comma"),
        pytest.param("{\n a: 1, a: 2 }", "duplicate field: a", (2, 8), id="field twice"),
        pytest.param("{ a: x }", "unknown variable: x", (1, 6), id="variable"),
        pytest.param("{ a: 'x }", "unterminated String", (1, 6), id="string"),
        pytest.param("", "unexpected end of file", (1, 1), id="empty"),
    ],
)
def test_faults_of_an_include_point_into_it(
    tmp_path: Path, include: str, message: str, place: tuple[int, int]
) -> None:
    """An imported file that is no Jsonnet is named with line and column, in words of one kind."""
    stack(tmp_path, "{ A: import 'includes/a.libsonnet' }", **{"includes/a.libsonnet": include})
    finding = refusal(tmp_path)
    assert finding.message == message
    assert finding.source == Source("includes/a.libsonnet", *place)


def test_an_error_that_quotes_a_place_keeps_its_own(tmp_path: Path) -> None:
    """`error` with a text that looks like a place is the template's, at the line that raised it."""
    finding = refusal(stack(tmp_path, "{\n a: error 'other.jsonnet:7:1 is wrong' }"))
    assert finding.message == "other.jsonnet:7:1 is wrong"
    assert finding.source == Source("template.jsonnet", 2, 5)


@pytest.mark.parametrize(
    "written", ["/etc/passwd", "../outside.txt", "link", "includes/../../outside.txt", "/dev/zero"]
)
def test_imports_stay_in_the_stack_folder(tmp_path: Path, written: str) -> None:
    """An import by absolute path, by `..` or through a link ends at the line that asks for it."""
    folder = tmp_path / "stack"
    folder.mkdir()
    (tmp_path / "outside.txt").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "outside.txt")
    finding = refusal(stack(folder, f"{{\n  a: importstr '{written}',\n}}"))
    assert finding.message == f"cannot import `{written}`: outside the stack folder"
    assert finding.source == Source("template.jsonnet", 2, 6)
    assert "secret" not in str(finding)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param(".feedgate/keyring.json", "begin with a dot", id="the data folder"),
        pytest.param(".git/config", "begin with a dot", id="history"),
        pytest.param("mysftpkey", "holds a private key", id="a private key"),
    ],
)
def test_secrets_are_not_the_authors(tmp_path: Path, name: str, says: str) -> None:
    """What lies in the stack folder and is not part of a definition cannot be rendered."""
    secret = tmp_path / name
    secret.parent.mkdir(exist_ok=True)
    secret.write_text("-----BEGIN OPENSSH " + "PRIVATE KEY-----\nb3BlbnNzaA==\n")
    (tmp_path / "template.jsonnet").write_text(f"{{ a: importstr '{name}' }}")
    with pytest.raises(DefinitionError) as caught:
        render(tmp_path)
    assert says in caught.value.findings[0].message


@pytest.mark.parametrize(
    ("template", "says"),
    [
        pytest.param("local f(x) = f(x) + 1; f(1)", "max stack frames exceeded", id="recursion"),
        pytest.param(
            "std.length(std.makeArray(100000000, function(i) 'x' + i) + [1])", "memory", id="array"
        ),
        pytest.param(
            "local f(s, n) = if n == 0 then s else f(s + s, n - 1); f('0123456789abcdef', 40)",
            "memory",
            id="string",
        ),
    ],
)
def test_hostile_templates_end_in_bounds(tmp_path: Path, template: str, says: str) -> None:
    """A template that recurses or allocates without end is refused, not waited for."""
    finding = refusal(stack(tmp_path, template), time_s_max=10, memory_bytes_max=MEMORY_BYTES)
    assert says in finding.message


def test_endless_work_ends_by_time(tmp_path: Path) -> None:
    """A template that only takes long is stopped after its time."""
    template = "std.foldl(function(a, b) (a + b) % 7, std.range(0, 3000000), 0)"
    finding = refusal(stack(tmp_path, template), time_s_max=0.5)
    assert finding.message == "rendering took longer than 0.5 s"
    assert finding.source == Source("template.jsonnet")


def test_trace_is_kept_apart_and_bounded(tmp_path: Path) -> None:
    """`std.trace` does not mix with the text, and what it prints is bounded."""
    folder = stack(
        tmp_path, "[std.trace('seen' + std.repeat('x', 1000), i) for i in std.range(1, 999)]"
    )
    rendered = render(folder)
    assert json.loads(rendered.text) == list(range(1, 1000))
    assert "seen" in rendered.trace
    assert len(rendered.trace) <= limits.RENDER_TRACE_BYTES_MAX


def test_a_module_in_the_stack_folder_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `feedgate.py` or `json.py` beside the template does not become part of the child."""
    stack(tmp_path, "1")
    for name in ("feedgate.py", "json.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit('hostile')")
    monkeypatch.chdir(tmp_path)
    assert render(Path()).text == "1\n"


def test_child_imports_nothing_heavy() -> None:
    """The module that every rendering starts a process for imports no library of ours."""
    code = (
        "import sys, feedgate.gateway.rendering;"
        "print(sorted({'yaml','asyncssh','apsw','msgspec','_gojsonnet'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"
