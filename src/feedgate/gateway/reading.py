"""Reading the author's folder: where the two files are, and what they say with a run's values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from feedgate.errors import DefinitionError, Finding, Source, UsageError
from feedgate.gateway.definition import Definition
from feedgate.gateway.rendering import render

__all__ = ["RunValues", "read_definition", "read_warehouse_files"]


@dataclass(frozen=True, slots=True)
class RunValues:
    """What a run gives beside the files; None means as last time, or the default."""

    name: str | None = None
    account: str | None = None
    region: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    physical_ids: Mapping[str, str] = field(default_factory=dict)
    imports: Mapping[str, str] = field(default_factory=dict)
    defines: Mapping[str, str] = field(default_factory=dict)


def read_definition(folder: Path, values: RunValues, previous: Definition | None) -> Definition:
    """Render the template and read the warehouse script of ``folder``.

    Values that this run does not give are those of ``previous``, as ``aws cloudformation deploy``
    keeps the parameters of an existing stack.

    Raises:
        DefinitionError: the template cannot be rendered.
        NotFound: there is no template in the folder.
    """
    rendered = render(folder)
    base = previous or Definition(name=_default_name(folder), template_file="", template_text="")
    return replace(
        base,
        name=values.name or base.name,
        template_file=rendered.file,
        template_text=rendered.text,
        authored=rendered.authored,
        warehouse_files=read_warehouse_files(rendered.folder),
        account=values.account or base.account,
        region=values.region or base.region,
        parameters={**base.parameters, **values.parameters},
        physical_ids={**base.physical_ids, **values.physical_ids},
        imports={**base.imports, **values.imports},
        defines={**base.defines, **values.defines},
    )


def read_warehouse_files(folder: Path) -> tuple[tuple[str, str], ...]:
    """``warehouse.sql``, or ``warehouse/*.sql`` by name: (file name, text) pairs, often one.

    Raises:
        UsageError: both forms exist.
        DefinitionError: a script is not UTF-8.
    """
    single, many = folder / "warehouse.sql", sorted((folder / "warehouse").glob("*.sql"))
    if single.exists() and many:
        raise UsageError(
            "both `warehouse.sql` and `warehouse/*.sql` exist", hint="keep one of the two forms"
        )
    files = []
    for path in [single] if single.exists() else many:
        name = str(path.relative_to(folder))
        try:
            files.append((name, path.read_text(encoding="utf-8")))
        except UnicodeDecodeError as error:
            raise DefinitionError(
                [Finding("error", f"not UTF-8 at byte {error.start}", source=Source(name))]
            ) from error
    return tuple(files)


def _default_name(folder: Path) -> str:
    """A stack name as CloudFormation allows it, from the folder's."""
    base = folder if folder.is_dir() else folder.parent
    name = re.sub(r"[^A-Za-z0-9-]+", "-", base.absolute().name).strip("-")
    return name if name and name[0].isalpha() else f"stack-{name}".rstrip("-")
