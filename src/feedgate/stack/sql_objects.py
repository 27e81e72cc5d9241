"""CREATE FILE FORMAT, STORAGE INTEGRATION and STAGE.

Sources: Snowflake's pages create-file-format, create-storage-integration, create-stage. A stage is
external, on S3 and behind a storage integration: the loader reads as the integration's role, so
there is nothing to judge a stage by without one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from feedgate.stack.sql_options import boolean, read_format_options, text
from feedgate.stack.sql_reader import Cursor, Option, Value
from feedgate.stack.sql_state import Creation, Declared
from feedgate.stack.warehouse import FileFormat, Stage, StorageIntegration

__all__ = [
    "location_within",
    "read_file_format",
    "read_integration",
    "read_stage",
    "resolve_file_format",
]

_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,512}")
_LOCATION = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?", re.DOTALL)


def read_file_format(cursor: Cursor, declared: Declared, made: Creation) -> None:
    """Read from the file format's name on, and declare it."""
    made.if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    source = cursor.source
    name = declared.name(cursor, "a file format")
    options = [each for each in cursor.options() if each.key != "COMMENT"]
    type_name, decoded = read_format_options(cursor, options)
    declared.require_free(cursor, made, "file format", declared.file_formats, name)
    _warn_of_escape(cursor, type_name, decoded, made.start)
    declared.file_formats[name] = FileFormat(type_name, decoded, name, source)


def _warn_of_escape(
    cursor: Cursor, type_name: str, decoded: Mapping[str, object], offset: int
) -> None:
    """A row that ends in a backslash swallows the next one unless the author says otherwise."""
    if type_name == "CSV" and not decoded.keys() & {
        "ESCAPE_UNENCLOSED_FIELD",
        "FIELD_OPTIONALLY_ENCLOSED_BY",
    }:
        cursor.remark(
            "warning",
            "ESCAPE_UNENCLOSED_FIELD is left at its default: a backslash in a field is an escape",
            rule="unenclosed-escape",
            hint="say ESCAPE_UNENCLOSED_FIELD = NONE unless the files are written so",
            offset=offset,
        )


def resolve_file_format(cursor: Cursor, declared: Declared, option: Option) -> FileFormat:
    """What ``FILE_FORMAT = ( FORMAT_NAME = … | TYPE = … options )`` means.

    ``FILE_FORMAT = name`` without parentheses is Snowflake's short form of FORMAT_NAME.
    """
    value = option.value
    source = cursor.script.source(option.start)
    if value.kind != "options":
        if value.kind == "list" and not value.items:
            return FileFormat(source=source)
        return _named_format(cursor, declared, value)
    by_key = {each.key: each for each in value.options}
    if "FORMAT_NAME" not in by_key:
        type_name, decoded = read_format_options(cursor, value.options)
        _warn_of_escape(cursor, type_name, decoded, option.start)
        return FileFormat(type_name, decoded, None, source)
    if len(by_key) > 1:
        cursor.collect("FORMAT_NAME and other options exclude each other", offset=option.start)
    return _named_format(cursor, declared, by_key["FORMAT_NAME"].value)


def _named_format(cursor: Cursor, declared: Declared, value: Value) -> FileFormat:
    if value.kind == "name":
        parts = tuple(each.text for each in value.items) or (value.text,)
    elif value.kind in ("word", "string"):
        parts = _split_name(value.text)
    else:
        raise cursor.fault("expected the name of a file format", offset=value.start)
    name = declared.resolve(cursor, parts, value.start)
    found = declared.file_formats.get(name)
    if found is None:
        raise declared.missing(cursor, "file format", name, value.start)
    return found


def _split_name(given: str) -> tuple[str, ...]:
    """A name inside a string: ``'db.schema."exact"'``."""
    pieces = re.findall(r'"((?:[^"]|"")*)"|([^."]+)', given)
    return tuple(
        exact.replace('""', '"') if exact else bare.strip().upper() for exact, bare in pieces
    )[:3] or ("",)


# -- storage integrations -----------------------------------------------------------------------

_INTEGRATION_OPTIONS = (
    "TYPE",
    "STORAGE_PROVIDER",
    "ENABLED",
    "STORAGE_AWS_ROLE_ARN",
    "STORAGE_AWS_EXTERNAL_ID",
    "STORAGE_AWS_OBJECT_ACL",
    "STORAGE_ALLOWED_LOCATIONS",
    "STORAGE_BLOCKED_LOCATIONS",
    "COMMENT",
)


def read_integration(cursor: Cursor, declared: Declared, made: Creation) -> None:
    """Read from the integration's name on, and declare it."""
    made.if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    source = cursor.source
    name = cursor.identifier("a storage integration")
    options = _known(cursor, "a storage integration", _INTEGRATION_OPTIONS)
    for key in ("TYPE", "STORAGE_PROVIDER", "STORAGE_AWS_ROLE_ARN", "STORAGE_ALLOWED_LOCATIONS"):
        if key not in options:
            cursor.collect(f"storage integration `{name}` lacks {key}", offset=made.start)
    _require_word(cursor, options, "TYPE", "EXTERNAL_STAGE")
    _require_word(cursor, options, "STORAGE_PROVIDER", "S3")
    arn = _text_of(cursor, options, "STORAGE_AWS_ROLE_ARN") or ""
    if arn and not _ROLE_ARN.fullmatch(arn):
        place = options["STORAGE_AWS_ROLE_ARN"].value.start
        cursor.collect(f"`{arn}` is not the ARN of a role", offset=place)
    if acl := options.get("STORAGE_AWS_OBJECT_ACL"):
        cursor.remark(
            "ignored",
            "STORAGE_AWS_OBJECT_ACL concerns unloading, which is not done here",
            rule="integration-option",
            offset=acl.start,
        )
    enabled = options.get("ENABLED")
    if enabled is None:
        cursor.collect(f"storage integration `{name}` lacks ENABLED", offset=made.start)
    integration = StorageIntegration(
        name,
        arn,
        enabled is not None and boolean(cursor, enabled),
        _locations(cursor, options.get("STORAGE_ALLOWED_LOCATIONS")),
        _locations(cursor, options.get("STORAGE_BLOCKED_LOCATIONS")),
        _text_of(cursor, options, "STORAGE_AWS_EXTERNAL_ID"),
        source,
    )
    declared.require_free(cursor, made, "storage integration", declared.integrations, name)
    declared.integrations[name] = integration


def _known(cursor: Cursor, what: str, known: Sequence[str]) -> dict[str, Option]:
    found: dict[str, Option] = {}
    for option in cursor.options():
        if option.key in known:
            found[option.key] = option
        else:
            cursor.collect(f"unknown option {option.key} of {what}", offset=option.start)
    return found


def _require_word(cursor: Cursor, options: Mapping[str, Option], key: str, wanted: str) -> None:
    option = options.get(key)
    if option is not None and option.value.text.upper() != wanted:
        cursor.collect(
            f"{key}={option.value.text} is not done here, only {wanted}", offset=option.value.start
        )


def _text_of(cursor: Cursor, options: Mapping[str, Option], key: str) -> str | None:
    option = options.get(key)
    return None if option is None else text(cursor, option)


def _locations(cursor: Cursor, option: Option | None) -> tuple[str, ...]:
    if option is None:
        return ()
    items = option.value.items if option.value.kind == "list" else (option.value,)
    for item in items:
        if item.kind != "string" or not (item.text == "*" or _LOCATION.fullmatch(item.text)):
            cursor.collect(
                f"{option.key}: `{item.text}` is not `s3://bucket/prefix/`", offset=item.start
            )
    return tuple(item.text for item in items)


def location_within(url: str, location: str) -> bool:
    """True if a stage URL lies in an allowed or blocked location of an integration.

    Whole path components count, so that ``s3://b/in`` does not allow ``s3://b/internal/``.
    Snowflake documents a path, not a prefix (CREATE STORAGE INTEGRATION).
    """
    if location == "*":
        return True
    base = location.rstrip("/")
    return url.rstrip("/") == base or url.startswith(base + "/")


# -- stages -------------------------------------------------------------------------------------

_STAGE_OPTIONS = (
    "URL",
    "STORAGE_INTEGRATION",
    "FILE_FORMAT",
    "COMMENT",
    "ENCRYPTION",
    "DIRECTORY",
)
_STAGE_REFUSED = {
    "CREDENTIALS": "use a STORAGE_INTEGRATION",
    "COPY_OPTIONS": "say them in the pipe's COPY INTO",
    "ENDPOINT": None,
    "AWS_ACCESS_POINT_ARN": None,
}


def read_stage(cursor: Cursor, declared: Declared, made: Creation) -> None:
    """Read from the stage's name on, and declare it."""
    made.if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    source = cursor.source
    name = declared.name(cursor, "a stage")
    options = _stage_options(cursor)
    if "URL" not in options or "STORAGE_INTEGRATION" not in options:
        lacking = "URL" if "URL" not in options else "STORAGE_INTEGRATION"
        cursor.collect(
            f"stage `{name}` lacks {lacking}",
            hint="only external stages behind a storage integration are done",
            offset=made.start,
        )
    url = _text_of(cursor, options, "URL") or ""
    integration = _stage_integration(cursor, declared, options)
    if url:
        _check_url(cursor, url, integration, options["URL"].value.start)
    given = options.get("FILE_FORMAT")
    file_format = FileFormat() if given is None else resolve_file_format(cursor, declared, given)
    comment = _text_of(cursor, options, "COMMENT")
    declared.require_free(cursor, made, "stage", declared.stages, name)
    declared.stages[name] = Stage(
        name, url, integration.name if integration else "", file_format, source, comment
    )


def _stage_options(cursor: Cursor) -> dict[str, Option]:
    found: dict[str, Option] = {}
    for option in cursor.options():
        if option.key in _STAGE_REFUSED:
            cursor.collect(
                f"stage option {option.key} is not done here",
                hint=_STAGE_REFUSED[option.key],
                offset=option.start,
            )
        elif option.key not in _STAGE_OPTIONS:
            cursor.collect(f"unknown option {option.key} of a stage", offset=option.start)
        else:
            found[option.key] = option
            if option.key in ("ENCRYPTION", "DIRECTORY"):
                _check_ignored(cursor, option)
    return found


def _check_ignored(cursor: Cursor, option: Option) -> None:
    """Server-side encryption is the bucket's business when reading; a client-side key is not."""
    for inner in option.value.options:
        if inner.key == "TYPE" and inner.value.text.upper() == "AWS_CSE":
            cursor.collect("ENCRYPTION TYPE=AWS_CSE is not done here", offset=inner.start)
            return
    cursor.remark(
        "ignored", f"{option.key} has no effect here", rule="stage-option", offset=option.start
    )


def _stage_integration(
    cursor: Cursor, declared: Declared, options: Mapping[str, Option]
) -> StorageIntegration | None:
    option = options.get("STORAGE_INTEGRATION")
    if option is None:
        return None
    value = option.value
    name = value.items[0].text if value.kind == "name" else value.text.upper()
    found = declared.integrations.get(name)
    if found is None:
        raise declared.missing(cursor, "storage integration", name, value.start)
    if not found.enabled:
        cursor.collect(f"storage integration `{name}` is not ENABLED", offset=value.start)
    return found


def _check_url(
    cursor: Cursor, url: str, integration: StorageIntegration | None, offset: int
) -> None:
    if not _LOCATION.fullmatch(url):
        cursor.collect(f"`{url}` is not `s3://bucket/prefix/`", offset=offset)
        return
    if not url.endswith("/"):
        cursor.remark(
            "warning",
            f"stage URL `{url}` has no slash at its end: it is a prefix of other names too",
            rule="stage-slash",
            hint=f"write `{url}/`",
            offset=offset,
        )
    if integration is None:
        return
    if not any(location_within(url, each) for each in integration.allowed_locations):
        cursor.collect(
            f"`{url}` lies in no STORAGE_ALLOWED_LOCATIONS of `{integration.name}`", offset=offset
        )
    if any(location_within(url, each) for each in integration.blocked_locations):
        cursor.collect(
            f"`{url}` lies in STORAGE_BLOCKED_LOCATIONS of `{integration.name}`", offset=offset
        )
