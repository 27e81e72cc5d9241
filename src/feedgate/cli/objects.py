"""``ls``, ``cat``, ``cp``, ``rm``: the operator's hand in the buckets, judged and logged."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from feedgate.cli.options import data_folder, data_option, json_option, stack_option
from feedgate.cli.output import note, print_json, result, safe, shown, size_text, time_text
from feedgate.errors import NotFound, UsageError
from feedgate.limits import UPLOAD_BATCH_BYTES

if TYPE_CHECKING:
    from feedgate.access.guarded import GuardedBucket
    from feedgate.gateway.services import Services

__all__ = ["cat", "cp", "ls", "rm"]


@click.command()
@click.argument("url", default="", metavar="[s3://BUCKET/PREFIX]")
@click.option("-r", "--recursive", is_flag=True, help="Objects at every level below the prefix.")
@stack_option
@data_option
@json_option
def ls(url: str, recursive: bool, stack: Path, data: Path | None, as_json: bool) -> None:
    """List buckets, or the objects under a prefix.

    Exit code 1 where nothing lies under the prefix, as with `aws s3 ls`.

    \b
    Examples:
      feedgate ls
      feedgate ls s3://landing/jeffrey_aven/ -r
    """
    with _services(stack, data) as services:
        if not url:
            names = sorted(services.buckets)
            if as_json:
                print_json({"buckets": names})
            for name in names if not as_json else ():
                result(f"s3://{name}/")
            return
        bucket, prefix = _bucket(services, url)
        listed = _listing(bucket, prefix, "" if recursive else "/")
        if as_json:
            rows = [
                {"key": key, "size": size, "last_modified_ms": modified}
                for key, size, modified in listed
            ]
            print_json({"bucket": bucket.name, "prefix": prefix, "objects": rows})
            found = bool(rows)
        else:
            found = _print_listing(listed)
        if not found and prefix:
            raise NotFound(
                f"nothing lies under `s3://{bucket.name}/{prefix}`",
                hint=f"`feedgate ls -r s3://{bucket.name}/` lists what is there",
            )


def _print_listing(listed: Iterator[tuple[str, int | None, int | None]]) -> bool:
    """A line each, as it comes; whether there was one."""
    found = False
    for key, size, modified in listed:
        found = True
        size_column = "PRE" if size is None else size_text(size)
        result(shown(f"{time_text(modified):19}  {size_column:>20}  ", safe(key)))
    return found


@click.command()
@click.argument("url", metavar="s3://BUCKET/KEY")
@stack_option
@data_option
def cat(url: str, stack: Path, data: Path | None) -> None:
    """Write an object to stdout, decrypted.

    \b
    Example:
      feedgate cat s3://landing/jeffrey_aven/orders/orders.csv | head
    """
    with _services(stack, data) as services:
        bucket, key = _bucket(services, url)
        _read_object(bucket, key, sys.stdout.buffer)


@click.command()
@click.argument("source")
@click.argument("target")
@stack_option
@data_option
def cp(source: str, target: str, stack: Path, data: Path | None) -> None:
    """Copy between a file (or `-`) and a bucket. What is copied in lands as an upload does.

    \b
    Examples:
      feedgate cp orders.csv s3://landing/jeffrey_aven/orders/orders.csv
      feedgate cp s3://landing/jeffrey_aven/orders/orders.csv -
    """
    with _services(stack, data) as services:
        if source.startswith("s3://"):
            if target.startswith("s3://"):
                raise UsageError(
                    "cp copies between a bucket and this machine, not between buckets",
                    hint=f"feedgate cp {source} - | feedgate cp - {target}",
                )
            bucket, key = _bucket(services, source)
            _copy_out(bucket, key, target)
            return
        bucket, key = _bucket(services, target)
        if key == "" or key.endswith("/"):
            if source == "-":
                raise UsageError("a copy from `-` needs the object's whole key")
            key += Path(source).name
        landing_id = _write_object(services, bucket, key, source)
        note(f"{source} → s3://{bucket.name}/{safe(key)}, receipt {landing_id}")


@click.command()
@click.argument("url", metavar="s3://BUCKET/KEY")
@stack_option
@data_option
def rm(url: str, stack: Path, data: Path | None) -> None:
    """Remove an object; rows that were loaded from it stay.

    \b
    Example:
      feedgate rm s3://landing/jeffrey_aven/orders/orders.csv
    """
    with _services(stack, data) as services:
        bucket, key = _bucket(services, url)
        if not services.database.write_now(lambda tx: bucket.delete(tx, key)):
            raise NotFound(f"there is no object `{url}`")
        note(f"removed {safe(url)}")


@contextmanager
def _services(stack: Path, data: Path | None) -> Iterator[Services]:
    from feedgate.gateway.services import Services, audit_to
    from feedgate.telemetry import EventLog

    folder = data_folder(stack, data)
    services = Services(
        folder,
        EventLog(sys.stderr, now=time.time),
        audit=audit_to(folder.audit_file, time.time),
    )
    try:
        yield services
    finally:
        services.close()


def _bucket(services: Services, url: str) -> tuple[GuardedBucket, str]:
    if not url.startswith("s3://"):
        raise UsageError(f"`{url}` is not s3://BUCKET/KEY", hint="`feedgate ls` lists the buckets")
    name, _, key = url.removeprefix("s3://").partition("/")
    bucket = services.guarded(services.operator()).get(name)
    if bucket is None:
        raise NotFound(f"there is no bucket `{name}`", hint="`feedgate ls` lists the buckets")
    return bucket, key


def _listing(
    bucket: GuardedBucket, prefix: str, delimiter: str
) -> Iterator[tuple[str, int | None, int | None]]:
    start_after = ""
    while True:
        page = bucket.list(prefix, delimiter=delimiter, start_after=start_after)
        for common in page.common_prefixes:
            yield common, None, None
        for item in page.objects:
            yield item.key, item.size, item.last_modified_ms
        if page.next_start_after is None:
            return
        start_after = page.next_start_after


def _read_object(bucket: GuardedBucket, key: str, stream: BinaryIO) -> None:
    reader = bucket.open(key)
    if reader is None:
        raise NotFound(f"there is no object `s3://{bucket.name}/{key}`")
    try:
        offset = 0
        while block := reader.pread(offset, UPLOAD_BATCH_BYTES):
            stream.write(block)
            offset += len(block)
        stream.flush()
    finally:
        reader.close()


def _copy_out(bucket: GuardedBucket, key: str, target: str) -> None:
    """To stdout, or into a file that is replaced only when all of it is there."""
    if target == "-":
        _read_object(bucket, key, sys.stdout.buffer)
        return
    path = Path(target)
    path = path / key.rsplit("/", 1)[-1] if path.is_dir() else path
    partial = path.with_name(f".{path.name}.feedgate")
    try:
        with partial.open("xb") as stream:
            _read_object(bucket, key, stream)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    note(f"s3://{bucket.name}/{safe(key)} → {path}")


def _write_object(services: Services, bucket: GuardedBucket, key: str, source: str) -> str:
    from feedgate.files.commit import land_operator_copy

    operator = services.operator()
    with nullcontext(sys.stdin.buffer) if source == "-" else Path(source).open("rb") as stream:
        upload = bucket.begin_upload(key, owner=f"operator:{operator.name}")
        try:
            offset = 0
            while block := stream.read(UPLOAD_BATCH_BYTES):
                upload.write(offset, [block])
                offset += len(block)
            landing = land_operator_copy(
                services.database, bucket, upload.finish(), operator=operator.name
            )
        except BaseException:
            upload.abort()
            raise
    services.wake_loader()
    return landing.landing_id
