"""Which pipes cover an object."""

from __future__ import annotations

from dataclasses import replace

import pytest

from feedgate.pipes.match import covering, is_temporary, location_of, why_not
from feedgate.stack.warehouse import Name, Warehouse
from feedgate.stack.warehouse_sql import parse_warehouse

SCRIPT = """
CREATE DATABASE d; CREATE SCHEMA s; CREATE TABLE t (a VARCHAR);
CREATE STORAGE INTEGRATION si TYPE=EXTERNAL_STAGE STORAGE_PROVIDER='S3' ENABLED=TRUE
  STORAGE_AWS_ROLE_ARN='arn:aws:iam::000000000000:role/r' STORAGE_ALLOWED_LOCATIONS=('*')
  STORAGE_BLOCKED_LOCATIONS=('s3://bkt/in/secret/');
CREATE STAGE whole URL='s3://bkt/in/' STORAGE_INTEGRATION=si;
CREATE STAGE open_prefix URL='s3://bkt/in/orders' STORAGE_INTEGRATION=si;
CREATE STAGE bucket URL='s3://other' STORAGE_INTEGRATION=si;
CREATE PIPE p_all AUTO_INGEST=TRUE AS COPY INTO t FROM @whole;
CREATE PIPE p_path AUTO_INGEST=TRUE AS COPY INTO t FROM @whole/2024/ PATTERN='.*[.]csv';
CREATE PIPE p_prefix AUTO_INGEST=TRUE AS COPY INTO t FROM @open_prefix;
CREATE PIPE p_joined AUTO_INGEST=TRUE AS COPY INTO t FROM @open_prefix/x/;
CREATE PIPE p_bucket AUTO_INGEST=TRUE AS COPY INTO t FROM @bucket/a/;
CREATE PIPE p_manual AS COPY INTO t FROM @whole;
CREATE PIPE p_start AUTO_INGEST=TRUE AS COPY INTO t FROM @whole PATTERN='only[.]txt';
"""


@pytest.fixture(scope="module")
def warehouse() -> Warehouse:
    """A warehouse with overlapping stages."""
    return parse_warehouse([("w.sql", SCRIPT)], {})


CASES = [
    ("bkt", "in/x.csv", ["P_ALL"]),
    ("bkt", "in/2024/x.csv", ["P_ALL", "P_PATH"]),
    ("bkt", "in/2024/x.csv.bak", ["P_ALL"]),
    ("bkt", "in/2024/deep/er/x.csv", ["P_ALL", "P_PATH"]),
    ("bkt", "in/orders/x.csv", ["P_ALL", "P_PREFIX"]),
    ("bkt", "in/orders_old/x.csv", ["P_ALL", "P_PREFIX"]),  # no slash: Snowflake's trap, kept
    ("bkt", "in/orders/x/y", ["P_ALL", "P_PREFIX", "P_JOINED"]),
    ("bkt", "in/only.txt", ["P_ALL", "P_START"]),
    ("bkt", "in/a/only.txt", ["P_ALL"]),
    ("bkt", "in/secret/x.csv", []),
    ("bkt", "elsewhere/x.csv", []),
    ("bkt", "in/", []),
    ("bkt", "in/2024/", []),
    ("bkt", "in/x.csv.filepart", []),
    ("other", "a/x", ["P_BUCKET"]),
    ("other", "b/x", []),
    ("unknown", "in/x.csv", []),
]


@pytest.mark.parametrize(("bucket", "key", "names"), CASES)
def test_covering(warehouse: Warehouse, bucket: str, key: str, names: list[str]) -> None:
    """A pipe covers what lies below its stage and path and matches its pattern as a whole."""
    assert [each.name.name for each in covering(warehouse, bucket, key)] == names


def test_locations_are_joined_with_one_slash(warehouse: Warehouse) -> None:
    """A path after a stage without a slash begins a new component."""
    places = {each.name.name: location_of(warehouse, each) for each in warehouse.pipes.values()}
    assert (places["P_JOINED"].bucket, places["P_JOINED"].prefix) == ("bkt", "in/orders/x/")
    assert (places["P_BUCKET"].bucket, places["P_BUCKET"].prefix) == ("other", "a/")
    assert places["P_PREFIX"].prefix == "in/orders"


@pytest.mark.parametrize(
    ("pipe", "key", "reason"),
    [
        ("P_PATH", "in/x.csv", "it reads `s3://bkt/in/2024/`"),
        ("P_PATH", "in/2024/x", "`x` does not match PATTERN `.*[.]csv`"),
        ("P_MANUAL", "in/x", "it has no AUTO_INGEST = TRUE"),
        ("P_ALL", "in/secret/x", "`SI` blocks `s3://bkt/in/secret/`"),
        ("P_ALL", "in/d/", "a key that ends in a slash marks a directory"),
        ("P_ALL", "in/a.tmp", "the name is one that clients give to unfinished uploads"),
        ("P_ALL", "in/a", None),
    ],
)
def test_why_not(warehouse: Warehouse, pipe: str, key: str, reason: str | None) -> None:
    """A pipe that does not take an object says why."""
    assert why_not(warehouse, warehouse.pipes[Name("D", "S", pipe)], "bkt", key) == reason


@pytest.mark.parametrize(
    ("key", "temporary"),
    [
        ("a/x.csv.filepart", True),
        ("a/x.part", True),
        ("a/x.tmp", True),
        ("a/.~x.csv", True),
        ("a/x.csv", False),
        ("a.part/x.csv", False),
        ("a/partner.csv", False),
    ],
)
def test_temporary_names(key: str, *, temporary: bool) -> None:
    """Only the last component of a key is a client's name for an unfinished upload."""
    assert is_temporary(key) is temporary


def test_temporary_names_of_the_server(warehouse: Warehouse) -> None:
    """A server's tag says which names are of unfinished uploads, instead of the usual ones."""
    declared = replace(warehouse, temporary_names=("*.uploading",))
    assert covering(declared, "bkt", "in/x.csv.uploading") == ()
    names = [pipe.name for pipe in covering(warehouse, "bkt", "in/x.csv.uploading")]
    assert [pipe.name for pipe in covering(declared, "bkt", "in/x.csv.part")] == names
