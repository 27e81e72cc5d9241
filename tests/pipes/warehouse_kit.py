"""A small warehouse.sql and landings for the tests of the DuckDB form and of the loader."""

from __future__ import annotations

import hashlib
from typing import Any

from feedgate.ledger.receipts import Landing
from feedgate.pipes.warehouse import LoadRequest, LoadResult, Warehouse
from feedgate.stack.warehouse import Pipe
from feedgate.stack.warehouse import Warehouse as Declared
from feedgate.stack.warehouse_sql import parse_warehouse

KEY = b"k" * 32
NOW = 1_790_000_000.0

SQL = """
CREATE DATABASE landing;
CREATE SCHEMA landing.raw;
CREATE TABLE orders (
    id NUMBER(12,0) NOT NULL, customer VARCHAR(10), amount NUMBER(12,2), at TIMESTAMP_NTZ,
    source VARCHAR DEFAULT 'sftp'
);
CREATE TABLE events (id VARCHAR NOT NULL, payload VARIANT, file VARCHAR, row_number NUMBER(12,0));
CREATE STORAGE INTEGRATION int TYPE = EXTERNAL_STAGE STORAGE_PROVIDER = 'S3' ENABLED = TRUE
    STORAGE_AWS_ROLE_ARN = 'arn:aws:iam::000000000000:role/loader'
    STORAGE_ALLOWED_LOCATIONS = ('s3://bucket/');
CREATE STAGE st URL = 's3://bucket/in/' STORAGE_INTEGRATION = int;
CREATE FILE FORMAT with_header TYPE = CSV SKIP_HEADER = 1 FIELD_OPTIONALLY_ENCLOSED_BY = '"';
CREATE PIPE skipping AUTO_INGEST = TRUE AS
    COPY INTO orders (id, customer, amount, at) FROM @st/orders/
    FILE_FORMAT = (FORMAT_NAME = with_header);
CREATE PIPE continuing AUTO_INGEST = TRUE AS
    COPY INTO orders (id, customer, amount, at) FROM @st/partial/
    FILE_FORMAT = (FORMAT_NAME = with_header) ON_ERROR = CONTINUE;
CREATE PIPE chosen AUTO_INGEST = TRUE AS
    COPY INTO orders (id, customer) FROM (SELECT t.$3, UPPER(t.$1) FROM @st/chosen/ t)
    FILE_FORMAT = (TYPE = CSV);
CREATE PIPE jsons AUTO_INGEST = TRUE AS
    COPY INTO events FROM (
        SELECT $1:id::VARCHAR, $1, METADATA$FILENAME, METADATA$FILE_ROW_NUMBER FROM @st/events/
    ) FILE_FORMAT = (TYPE = JSON) ON_ERROR = CONTINUE;
"""


def declared(sql: str = SQL) -> Declared:
    """The script as ``up`` would read it."""
    return parse_warehouse([("warehouse.sql", sql)], {})


def pipe(of: Declared, name: str) -> Pipe:
    """The pipe of that name."""
    return next(each for each in of.pipes.values() if each.name.name == name.upper())


def landing(landing_id: str, key: str, data: bytes, **changes: Any) -> Landing:
    """A landing of ``data`` at ``key``; its object is named after it."""
    fields: dict[str, Any] = {
        "landing_id": landing_id,
        "bucket": "bucket",
        "key": key,
        "version_id": "v1",
        "object_id": f"object-{landing_id}",
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "etag": "e",
        "kms_key_arn": None,
        "user_name": "acme",
        "session_id": "s",
        "ssh_key_fingerprint": "f",
        "client_version": "c",
        "source_ip": "127.0.0.1",
        "path": "/" + key,
        "landed_at_ms": int(NOW * 1000),
    }
    return Landing(**{**fields, **changes})


def load(
    warehouse: Warehouse, of: Declared, pipe_name: str, landing_id: str, data: bytes, **more: Any
) -> LoadResult:
    """Load ``data`` as a landing of that id."""
    request = LoadRequest(
        pipe(of, pipe_name),
        landing(landing_id, f"in/{landing_id}", data),
        [data],
        lambda: NOW,
        **more,
    )
    return warehouse.load(request)
