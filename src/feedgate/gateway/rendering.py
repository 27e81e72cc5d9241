"""The author's template file to rendered text: Jsonnet in a child process with bounds.

First step of the definition's way, before ``stack.template``. Jsonnet is a program and no
implementation bounds its time or memory, so it runs in a process of its own that reads only files
under the stack folder. It is plain Jsonnet: no external variables, no library path, so that
``jsonnet template.jsonnet`` prints the same bytes (https://jsonnet.org/ref/language.html).

This module is also the child (``python -m feedgate.gateway.rendering``): a JSON request on stdin, a
JSON reply on stdout. It imports nothing that a child would wait for.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

from feedgate import limits
from feedgate.errors import CouldNot, DefinitionError, Finding, NotFound, Source

__all__ = ["Rendered", "find_template", "render", "render_template"]

TEMPLATE_NAMES: Final = (
    "template.jsonnet",
    "templates/template.jsonnet",
    "template.json",
    "template.yaml",
    "template.yml",
)

# What a refused import evaluates to, should the template go on; the refusal is reported instead.
_REFUSED: Final = b"error 'refused import'"

_PLACE: Final = re.compile(
    r"^\t?(?P<file>[^\t\n]+?):(?:(?P<line>\d+):(?P<column>\d+)(?:-\d+)?"
    r"|\((?P<line2>\d+):(?P<column2>\d+)\)-\(\d+:\d+\))(?P<rest>[ \t].*)?$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A template's text and the author's files that it came from.

    ``file`` and the names in ``authored`` are relative to ``folder``, with ``/``. ``authored``
    holds the texts of the Jsonnet template and of everything that it imported, in the order read;
    empty for JSON and YAML. ``trace`` is what ``std.trace`` printed.
    """

    folder: Path
    file: str
    text: str
    authored: Mapping[str, str] = field(default_factory=dict)
    trace: str = ""


def find_template(path: Path) -> Path:
    """Return the template's path for a stack folder, or for the template file itself.

    Raises ``NotFound``.
    """
    if path.is_dir():
        for name in TEMPLATE_NAMES:
            if (path / name).is_file():
                return path / name
        raise NotFound(
            f"no template in `{path}`: looked for {', '.join(TEMPLATE_NAMES)}",
            hint="`feedgate init` writes the example stack",
        )
    if not path.is_file():
        raise NotFound(f"no such stack: `{path}`", hint="name a folder or a template file")
    return path


def render_template(path: Path) -> str:
    """Return the rendered text alone: what ``jsonnet FILE`` prints. Raises as ``render`` does."""
    return render(path).text


def _folder_and_name(template: Path) -> tuple[Path, str]:
    """The stack folder, links followed, and the template's name in it.

    A file in a folder named ``templates`` belongs to the folder above.
    """
    template = template.parent.resolve() / template.name
    if template.parent.name == "templates":
        return template.parent.parent, f"templates/{template.name}"
    return template.parent, template.name


def render(
    path: Path,
    *,
    time_s_max: float = limits.RENDER_TIME_S_MAX,
    memory_bytes_max: int = limits.RENDER_MEMORY_BYTES_MAX,
) -> Rendered:
    """Render the stack at ``path`` (a folder or a template file).

    Raises ``NotFound`` (no template), ``DefinitionError`` (Jsonnet's error at the author's line, a
    refused import, a bound exceeded) or ``CouldNot`` (the file cannot be read).
    """
    folder, name = _folder_and_name(find_template(path))
    if not name.endswith((".jsonnet", ".libsonnet")):
        return Rendered(folder, name, _read_text(folder / name, name))
    reply, trace = _run_child(folder, name, time_s_max, memory_bytes_max)
    if "message" in reply:
        place = Source(reply["file"] or name, reply["line"], reply["column"])
        _refuse(place, reply["message"], hint=reply.get("hint"))
    return Rendered(folder, name, reply["text"], reply["authored"], trace)


def _read_text(path: Path, name: str) -> str:
    try:
        if path.stat().st_size > limits.RENDER_OUTPUT_BYTES_MAX:
            _refuse(Source(name), f"larger than {limits.RENDER_OUTPUT_BYTES_MAX} bytes")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        _refuse(Source(name), f"not UTF-8 at byte {error.start}")
    except OSError as error:
        raise CouldNot(f"cannot read `{name}`: {error.strerror}") from error


def _refuse(source: Source, message: str, *, hint: str | None = None) -> NoReturn:
    raise DefinitionError([Finding("error", message, source, hint=hint, rule="jsonnet")])


def _run_child(
    folder: Path, name: str, time_s_max: float, memory_bytes_max: int
) -> tuple[dict[str, Any], str]:
    request = {
        "folder": str(folder),
        "file": name,
        "time_s_max": time_s_max,
        "memory_bytes_max": memory_bytes_max,
    }
    # -P: the stack folder may be the current one and must not lend modules to the child.
    command = [sys.executable, "-P", "-m", "feedgate.gateway.rendering"]
    keep = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")
    environment = {key: os.environ[key] for key in keep if key in os.environ}
    # The child's own file descriptor keeps what it prints out of our memory.
    with tempfile.TemporaryFile() as errors:
        try:
            done = subprocess.run(
                command,
                input=json.dumps(request).encode(),
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**environment, "GOTRACEBACK": "none", "PYTHONUTF8": "1"},
                timeout=time_s_max,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _stopped(f"rendering took longer than {time_s_max:g} s"), ""
        errors.seek(0)
        trace = errors.read(limits.RENDER_TRACE_BYTES_MAX).decode("utf-8", "replace")
    if done.returncode == 0:
        reply: dict[str, Any] = json.loads(done.stdout)
        return reply, trace
    if re.search(r"out of memory|cannot allocate memory|MemoryError|mmap|newosproc", trace):
        return _stopped(f"rendering needed more than {memory_bytes_max >> 20} MiB of memory"), trace
    if done.returncode < 0:
        return _stopped(f"rendering was ended by signal {-done.returncode}"), trace
    lines = trace.strip().splitlines()
    raise CouldNot(f"rendering `{name}` failed: {lines[-1] if lines else done.returncode}")


def _stopped(message: str) -> dict[str, Any]:
    hint = "look for a recursion or a comprehension without end"
    return {"message": message, "file": None, "line": 0, "column": 0, "hint": hint}


# -- the child ----------------------------------------------------------------------------------


class _Imports:
    """The files that Jsonnet may read: those under the stack folder, links followed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._real = os.path.realpath(folder)
        self.texts: dict[str, str] = {}
        self.refused: list[tuple[str, str, str]] = []  # directory, name as written, why

    def read(self, name: str) -> bytes:
        """Return the bytes of a file under the folder. Raises ``OSError`` with the reason."""
        path = os.path.normpath(os.path.join(self._real, name))
        real = os.path.realpath(path)
        if os.path.commonpath([self._real, real]) != self._real:
            raise PermissionError(13, "outside the stack folder")
        inside = os.path.relpath(real, self._real).split(os.sep)
        if any(part.startswith(".") for part in inside):  # .feedgate holds keys, .git history
            raise PermissionError(
                13, "files and folders that begin with a dot are not the author's"
            )
        if not os.path.isfile(real):  # a device or a pipe would never end
            raise FileNotFoundError(2, "no such file")
        with open(real, "rb") as file:
            data = file.read(limits.RENDER_OUTPUT_BYTES_MAX + 1)
        if len(data) > limits.RENDER_OUTPUT_BYTES_MAX:
            raise OSError(27, f"larger than {limits.RENDER_OUTPUT_BYTES_MAX} bytes")
        if b"PRIVATE KEY-----" in data:
            raise PermissionError(13, "it holds a private key, which belongs in no template")
        return data

    def __call__(self, directory: str, name: str) -> tuple[str, bytes]:
        """gojsonnet's ``import_callback``: an exception here would lose its text, so none."""
        path = name if name.startswith("/") else directory + name
        path = os.path.normpath(path).replace(os.sep, "/")
        try:
            data = self.read(path)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.refused.append((directory, name, reason or "cannot be read"))
            return path, _REFUSED
        self.texts.setdefault(path, data.decode("utf-8", "replace"))
        return path, data

    def refusal(self) -> dict[str, Any] | None:
        """The first refused import as a reply, at the line that asks for it."""
        if not self.refused:
            return None
        directory, name, reason = self.refused[0]
        quoted = re.compile(r"import(?:str|bin)?\s*@?(['\"])" + re.escape(name) + r"\1")
        message = f"cannot import `{name}`: {reason}"
        hint = "imports are confined to the stack folder" if reason.startswith("outside") else None
        for file, text in self.texts.items():
            head = file.rpartition("/")[0]
            if (head + "/" if head else "") == directory and (match := quoted.search(text)):
                line = text.count("\n", 0, match.start()) + 1
                column = match.start() - text.rfind("\n", 0, match.start())
                return _fault(message, file, line, column, hint)
        return _fault(message, None, 0, 0, hint)


def _fault(
    message: str, file: str | None, line: int, column: int, hint: str | None = None
) -> dict[str, Any]:
    return {"message": message, "file": file, "line": line, "column": column, "hint": hint}


def _jsonnet_fault(text: str, files: Collection[str]) -> dict[str, Any]:
    """Turn gojsonnet's message (its only form of an error) into message and place.

    Static errors are ``FILE:L:C-C Message``; run-time ones ``RUNTIME ERROR: Message`` and a stack
    of ``\\tFILE:L:C-C\\twhere``, innermost first, of which the first in an author's file counts.
    A static error in a file that was imported is a run-time one whose message is a static one.
    """
    runtime = text.startswith("RUNTIME ERROR: ")
    text = text.removeprefix("RUNTIME ERROR: ")
    if runtime and (static := _PLACE.match(text)) and static["file"] in files:
        runtime, text = False, static[0]
    places = [match for match in _PLACE.finditer(text) if match["file"] in files]
    message = text.split("\n\t", 1)[0]
    file, line, column = None, 0, 0
    if places:
        first = places[0]
        file = first["file"]
        line = int(first["line"] or first["line2"])
        column = int(first["column"] or first["column2"])
        if not runtime:
            message = (first["rest"] or "").strip() or message
    message = " ".join(message.split()).rstrip(".")
    message = message[:1].lower() + message[1:]
    return _fault(message, file, line, column)


def _bound_self(time_s_max: float, memory_bytes_max: int) -> None:
    """Give this process its bounds. What it may write to a file bounds ``std.trace``."""
    try:
        import resource  # noqa: PLC0415 - absent on Windows, where only the time is bounded
    except ImportError:
        return
    seconds = int(time_s_max) + 1
    # Go reserves some 800 MiB of addresses that it never touches: RLIMIT_AS would count them.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes_max, memory_bytes_max))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    trace_bytes = limits.RENDER_TRACE_BYTES_MAX
    resource.setrlimit(resource.RLIMIT_FSIZE, (trace_bytes, trace_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _evaluate(folder: Path, name: str) -> dict[str, Any]:
    import _gojsonnet  # noqa: PLC0415 - only the child starts a Go runtime

    imports = _Imports(folder)
    try:
        data = imports.read(name)
        source = data.decode("utf-8-sig")
        if "\0" in source:
            return _fault("a zero byte in the file", name, 0, 0)
        imports.texts[name] = source
        text = _gojsonnet.evaluate_snippet(name, source, import_callback=imports)
        reply: dict[str, Any] = {"text": text, "authored": imports.texts}
        if len(text) > limits.RENDER_OUTPUT_BYTES_MAX:
            most = limits.RENDER_OUTPUT_BYTES_MAX
            reply = _fault(f"renders to more than {most} characters", name, 0, 0)
    except UnicodeDecodeError as error:
        reply = _fault(f"not UTF-8 at byte {error.start}", name, 0, 0)
    except OSError as error:
        reply = _fault(f"cannot be read: {error.strerror}", name, 0, 0)
    except RuntimeError as error:
        reply = _jsonnet_fault(str(error), imports.texts)
    return imports.refusal() or reply


def _child() -> None:
    request = json.load(sys.stdin)
    _bound_self(request["time_s_max"], request["memory_bytes_max"])
    reply = _evaluate(Path(request["folder"]), request["file"])
    sys.stdout.write(json.dumps(reply))
    sys.stdout.flush()
    os._exit(0)  # the Go runtime's threads need no farewell


if __name__ == "__main__":
    _child()
