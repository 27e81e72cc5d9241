"""House rules that no linter knows: sizes, names, what tests say, locked dependencies."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "feedgate"

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base"}
LOCKED = ("requirements.txt", "requirements-dev.txt", "requirements-build.txt")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def project_files() -> tuple[Path, ...]:
    """What git holds or would hold: tracked, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    files = tuple(ROOT / name for name in sorted(set(listed.split("\0")) - {""}))
    return tuple(path for path in files if path.is_file())


def python_files(folder: str) -> list[Path]:
    """The project's Python files below a folder."""
    found = [
        path
        for path in project_files()
        if path.suffix == ".py" and path.is_relative_to(ROOT / folder)
    ]
    assert found, f"no Python files below {folder}"
    return found


@cache
def tree_of(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions_of(tree: ast.AST) -> Iterator[Function]:
    """Every function of a tree, methods and inner functions included."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def place(path: Path, line: int = 0) -> str:
    """A position as editors open it."""
    name = str(path.relative_to(ROOT))
    return f"{name}:{line}" if line else name


def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def locked_versions(name: str) -> dict[str, list[str]]:
    """Package → its locked versions (more than one where Python versions differ)."""
    versions: dict[str, list[str]] = {}
    for line in (ROOT / name).read_text().splitlines():
        if found := re.match(r"([A-Za-z0-9._-]+)==(\S+)", line):
            versions.setdefault(canonicalize_name(found[1]), []).append(found[2])
    return versions


# -- modules and functions ------------------------------------------------------------------------


def test_modules_are_short() -> None:
    """A module is read in one sitting: 500 lines at most."""
    long = [
        f"{place(path)}: {count} lines"
        for path in python_files("src")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > MODULE_LINES_MAX
    ]
    assert long == []


def test_functions_are_short() -> None:
    """A function fits a screen: 70 lines at most, its docstring not counted."""
    long = []
    for path in [*python_files("src"), *python_files("tests"), *python_files("benchmarks")]:
        for function in functions_of(tree_of(path)):
            lines = (function.end_lineno or 0) - function.lineno + 1 - docstring_lines(function)
            if lines > FUNCTION_LINES_MAX:
                long.append(f"{place(path, function.lineno)}: {function.name} has {lines} lines")
    assert long == []


def docstring_lines(function: Function) -> int:
    """How many lines a function's docstring takes."""
    if ast.get_docstring(function) is None:
        return 0
    return (function.body[0].end_lineno or 0) - function.body[0].lineno + 1


def test_module_names_say_something() -> None:
    """A module is named for what it holds, so that there is one place to look for a thing."""
    vague = [
        place(path)
        for path in python_files("src")
        if {path.stem, path.parent.name} & NAMES_THAT_SAY_NOTHING
    ]
    assert vague == []


def test_every_module_has_a_docstring() -> None:
    """A module opens with what it is and where it stands in the way of a file."""
    bare = [place(path) for path in python_files("src") if not ast.get_docstring(tree_of(path))]
    assert bare == []


def test_every_module_lists_its_public_names() -> None:
    """``__all__`` is explicit, sorted by hand or not, and names only what the module defines."""
    wrong = []
    for path in python_files("src"):
        if path.name in ("__init__.py", "__main__.py"):
            continue
        names = public_names(tree_of(path))
        if names is None:
            wrong.append(f"{place(path)}: no __all__")
        elif missing := names - top_level_names(tree_of(path)):
            wrong.append(f"{place(path)}: __all__ names {sorted(missing)}, not defined there")
    assert wrong == []


def public_names(tree: ast.Module) -> set[str] | None:
    """What ``__all__`` holds; None without it; for ``limits``, every constant is public."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    constants = set(final_constants(tree))
    others = [node for node in tree.body if isinstance(node, Function | ast.ClassDef)]
    return constants if constants and not others else None


def top_level_names(tree: ast.Module) -> set[str]:
    """Names bound at the top of a module, imports included."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        else:
            names |= {
                child.id
                for child in ast.walk(node)
                if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store)
            }
    return names


def final_constants(tree: ast.Module) -> dict[str, int]:
    """The ``NAME: Final = …`` lines of a module: name → line."""
    return {
        node.target.id: node.lineno
        for node in tree.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and "Final" in ast.unparse(node.annotation)
    }


def test_every_bound_is_used() -> None:
    """A bound in ``limits`` that nothing obeys is a promise that nobody keeps."""
    limits = SOURCE / "limits.py"
    text = "\n".join(
        path.read_text(encoding="utf-8") for path in python_files("src") if path != limits
    )
    used = set(re.findall(r"[A-Z][A-Z0-9_]+", text))
    constants = final_constants(tree_of(limits))
    unused = [
        f"{place(limits, line)}: {name}" for name, line in constants.items() if name not in used
    ]
    assert len(constants) > 20
    assert unused == []


# -- tests ----------------------------------------------------------------------------------------


def test_every_test_states_a_behaviour() -> None:
    """A test's docstring says what holds; its name alone is too short for that."""
    bare = [
        f"{place(path, function.lineno)}: {function.name}"
        for path, function in every_test()
        if not ast.get_docstring(function)
    ]
    assert bare == []


def test_every_test_asserts_something() -> None:
    """A test that cannot fail, except by an accident on its way, tests nothing."""
    idle = []
    for path, function in every_test():
        if not asserts(function, asserting_names(path)):
            idle.append(f"{place(path, function.lineno)}: {function.name}")
    assert idle == []


def every_test() -> Iterator[tuple[Path, Function]]:
    """Every test function of the project."""
    for path in python_files("tests"):
        if not path.name.startswith("test_"):
            continue
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Module | ast.ClassDef):
                for child in node.body:
                    if isinstance(child, Function) and child.name.startswith("test_"):
                        yield path, child


@cache
def asserting_names(path: Path) -> frozenset[str]:
    """Functions that assert, or call one that does: of a file, of the modules beside it that it
    imports from, of the conftest files above it.
    """
    beside = [
        path.with_name(f"{node.module}.py")
        for node in tree_of(path).body
        if isinstance(node, ast.ImportFrom)
    ]
    above = [folder / "conftest.py" for folder in path.parents if folder != ROOT.parent]
    files = [path, *beside, *above]
    functions = [
        function
        for file in files
        if file.is_file() and file.is_relative_to(ROOT)
        for function in functions_of(tree_of(file))
    ]
    names: frozenset[str] = frozenset()
    while True:
        found = frozenset(function.name for function in functions if asserts(function, names))
        if found == names:
            return names
        names = found


def asserts(function: Function, names: frozenset[str]) -> bool:
    """Whether a function asserts, expects an exception, or calls one of ``names`` that does."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else None
            called = node.func.id if isinstance(node.func, ast.Name) else called
            if called in names or called in ("raises", "fail", "warns"):
                return True
    return False


# -- what may not be in the repository ------------------------------------------------------------


def test_there_is_no_private_key() -> None:
    """Not in the example, not in a test, not anywhere: keys are made where they are used."""
    # In two pieces, so that this file does not find itself.
    private_key = re.compile(rb"BEGIN [A-Z ]*PRIVATE" + rb" KEY-----\s+[A-Za-z0-9+/]{16}")
    found = [place(path) for path in project_files() if private_key.search(path.read_bytes())]
    assert found == []


def test_no_file_names_a_package_index() -> None:
    """Where packages come from is the machine's configuration, never the project's."""
    assert [place(path) for path in project_files() if path.name == "uv.lock"] == []
    index = re.compile(
        r"--(extra-)?index-url|--find-links|/simple/?\s|py" + r"thonhosted|py" + r"pi\.org"
    )
    found = [
        place(path)
        for path in project_files()
        if path.suffix in {".txt", ".toml", ".cfg", ".md", ".sh", ""}
        and index.search(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []


# -- dependencies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOCKED)
def test_locked_files_hold_hashes(name: str) -> None:
    """pip installs nothing whose bytes were not seen when the versions were locked."""
    text = (ROOT / name).read_text()
    entries = [entry for entry in re.split(r"\n(?=[a-z])", text) if not entry.startswith("#")]
    bare = [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry]
    assert len(entries) > 4
    assert bare == []
    assert "://" not in text
    assert " @ " not in text


def test_locked_versions_are_what_the_project_asks_for() -> None:
    """Each requirement of pyproject.toml is locked at a version that it allows."""
    data = project()
    table = data["project"]
    groups = data["dependency-groups"]
    run, dev = locked_versions("requirements.txt"), locked_versions("requirements-dev.txt")
    wrong = []
    for text, locked in [
        *((text, run) for text in table["dependencies"]),
        *((text, dev) for text in table["dependencies"]),
        *((text, dev) for text in groups["dev"]),
    ]:
        requirement = Requirement(text)
        versions = locked.get(canonicalize_name(requirement.name), [])
        if not versions or not all(requirement.specifier.contains(one) for one in versions):
            wrong.append(f"{text}: locked {versions}; run scripts/lock")
    assert wrong == []


def test_locked_files_agree() -> None:
    """What the tests run against is what a user gets."""
    run, dev = locked_versions("requirements.txt"), locked_versions("requirements-dev.txt")
    assert {name: dev.get(name) for name in run} == run


def test_asyncssh_is_past_its_security_fixes() -> None:
    """asyncssh before 2.24.1 has known holes: the floor stands in pyproject.toml."""
    table = project()["project"]
    asyncssh = next(
        requirement
        for requirement in map(Requirement, table["dependencies"])
        if requirement.name == "asyncssh"
    )
    assert not asyncssh.specifier.contains("2.24.0")
    assert asyncssh.specifier.contains("2.24.1")


def test_imported_packages_are_declared() -> None:
    """What the source imports, pyproject.toml requires: nothing arrives by luck."""
    table = project()["project"]
    extras = table["optional-dependencies"]
    required = table["dependencies"]
    texts = [*required, *(text for extra in extras.values() for text in extra)]
    declared = {canonicalize_name(Requirement(text).name) for text in texts}
    providers = packages_distributions()
    undeclared = []
    for path in python_files("src"):
        for module, line in imported_packages(tree_of(path)):
            owners = {canonicalize_name(name) for name in providers.get(module, [module])}
            if not owners & declared:
                undeclared.append(f"{place(path, line)}: {module}")
    assert undeclared == []


def imported_packages(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The top-level packages from elsewhere that a module imports, with the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        else:
            continue
        for name in names:
            package = name.split(".")[0]
            if package != "feedgate" and package not in sys.stdlib_module_names:
                yield package, node.lineno
