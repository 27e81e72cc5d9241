"""What `up` shows to who watches."""

from __future__ import annotations

from typing import Any

import pytest

from feedgate.cli.operate import live_lines, parse_address
from feedgate.errors import UsageError
from feedgate.ledger.receipts import Landing

LANDING = Landing(
    landing_id="01M87AQFYQ2QXEKVRN3H5TDJCH",
    bucket="landing",
    key="jeffrey_aven/orders/a.csv",
    version_id="v",
    object_id="o",
    size=4,
    sha256="0" * 64,
    etag="e",
    kms_key_arn=None,
    user_name="jeffrey_aven",
    session_id="s",
    ssh_key_fingerprint="",
    client_version="",
    source_ip="",
    path="/orders/a.csv",
    landed_at_ms=0,
)
CLOSE: dict[str, Any] = {
    "activity-type": "CLOSE",
    "user": "jeffrey_aven",
    "path": "/landing/jeffrey_aven/orders/a.csv",
    "bytes-in": "4",
    "seconds": 0.02,
}


def test_an_upload_is_shown_as_its_supplier_named_it() -> None:
    """User, the supplier's path, size and time; then where it landed and its receipt."""
    assert live_lines(CLOSE, LANDING) == [
        "jeffrey_aven  put /orders/a.csv  4 B in 0.0 s",
        "  s3://landing/jeffrey_aven/orders/a.csv  receipt 01M87AQFYQ2QXEKVRN3H5TDJCH",
    ]


def test_a_large_upload_is_shown_with_its_rate() -> None:
    """From a mebibyte on the bytes a second are told."""
    [line, _where] = live_lines({**CLOSE, "bytes-in": str(3 << 30), "seconds": 6.0}, LANDING)
    assert line.endswith("3.0 GiB in 6.0 s, 512.0 MiB/s")


def test_what_landed_nowhere_is_shown_without_a_place() -> None:
    """An upload without a receipt is still told; what is no upload and no load is not."""
    assert live_lines(CLOSE, None) == [f"jeffrey_aven  put {CLOSE['path']}  4 B in 0.0 s"]
    assert live_lines({"activity-type": "CLOSE", "bytes-out": "4"}, None) == []


def test_a_load_is_shown_with_what_went_wrong() -> None:
    """Status, rows and table; errors and the message where there are some."""
    load = {
        "activity-type": "LOAD",
        "status": "LOAD_FAILED",
        "rows-loaded": 0,
        "errors-seen": 1,
        "table": "T",
        "landing-id": "01M",
        "message": "1 of 2 records has an error",
    }
    assert live_lines(load, None) == [
        "  LOAD_FAILED  0 rows → T  1 errors  receipt 01M",
        "    1 of 2 records has an error",
    ]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("0.0.0.0:22", ("0.0.0.0", 22)),
        ("[::1]:2222", ("::1", 2222)),
        (":2222", ("127.0.0.1", 2222)),
        ("2222", ("127.0.0.1", 2222)),
    ],
)
def test_addresses(written: str, read: tuple[str, int]) -> None:
    """Host and port as `--listen` takes them; a port alone listens here only."""
    assert parse_address(written) == read
    with pytest.raises(UsageError):
        parse_address(f"{written}x")
