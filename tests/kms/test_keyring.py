"""The keyring: wrapping, rotation, states, the file."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from feedgate import errors
from feedgate.kms.envelope import DATA_KEY_BYTES, s3_encryption_context
from feedgate.kms.keyring import Keyring

ARN = "arn:aws:kms:us-east-1:000000000000:key/11111111-2222-3333-4444-555555555555"
OTHER = ARN.replace("1111", "9999")
CONTEXT = {"aws:s3:arn": "arn:aws:s3:::landing/a.csv"}
DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    """A keyring with two KMS keys, the first of which rotates."""
    made = Keyring.create(tmp_path / "keyring.json")
    made.ensure(ARN, enable_rotation=True, now_ms=0)
    made.ensure(OTHER, enable_rotation=False, now_ms=0)
    return made


def test_data_key_round_trip(keyring: Keyring) -> None:
    """A fresh data key unwraps to itself under the same context."""
    key = keyring.key(ARN)
    first, second = key.generate_data_key(CONTEXT), key.generate_data_key(CONTEXT)
    assert len(first.plaintext) == DATA_KEY_BYTES
    assert first.plaintext != second.plaintext
    assert first.kms_key_arn == ARN
    assert key.decrypt(first.wrapped, dict(reversed(CONTEXT.items()))) == first.plaintext
    assert key.decrypt(key.wrap(first.plaintext, {}), {}) == first.plaintext


def test_wrapped_key_is_plain_aes_gcm(keyring: Keyring, tmp_path: Path) -> None:
    """Whoever holds the key material can unwrap with AES-256-GCM alone, by the known layout."""
    data_key = keyring.key(ARN).generate_data_key(CONTEXT)
    document = json.loads((tmp_path / "keyring.json").read_text())
    material = base64.b64decode(document["kms_keys"][ARN]["versions"][0]["material"])
    wrapped = data_key.wrapped
    associated = (
        '{"context":{"aws:s3:arn":"arn:aws:s3:::landing/a.csv"},"kms_key":"'
        + ARN
        + '","version":1}'
    )
    assert wrapped[:5] == b"\x01\x00\x00\x00\x01"
    assert len(wrapped) == 65
    opened = AESGCM(material).decrypt(wrapped[5:17], wrapped[17:], associated.encode())
    assert opened == data_key.plaintext


@pytest.mark.parametrize(
    "context",
    [{}, {"aws:s3:arn": "arn:aws:s3:::landing/b.csv"}, {**CONTEXT, "more": ""}],
    ids=["none", "another object", "more"],
)
def test_another_context_does_not_unwrap(keyring: Keyring, context: dict[str, str]) -> None:
    """The encryption context is bound: any other one raises Integrity."""
    key = keyring.key(ARN)
    with pytest.raises(errors.Integrity):
        key.decrypt(key.generate_data_key(CONTEXT).wrapped, context)


def test_another_kms_key_does_not_unwrap(keyring: Keyring) -> None:
    """A wrapped data key is bound to its KMS key."""
    wrapped = keyring.key(ARN).generate_data_key(CONTEXT).wrapped
    with pytest.raises(errors.Integrity):
        keyring.key(OTHER).decrypt(wrapped, CONTEXT)


def test_no_malleability(keyring: Keyring) -> None:
    """Flipping any single bit, cutting or extending a wrapped data key raises Integrity."""
    key = keyring.key(ARN)
    wrapped = key.generate_data_key(CONTEXT).wrapped
    changed = [wrapped[:-1], wrapped + b"\0", b""]
    for bit in range(len(wrapped) * 8):
        flipped = bytearray(wrapped)
        flipped[bit // 8] ^= 1 << bit % 8
        changed.append(bytes(flipped))
    for case in changed:
        with pytest.raises(errors.Integrity):
            key.decrypt(case, CONTEXT)


@given(
    contexts=st.lists(
        st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
        min_size=2,
        max_size=2,
        unique_by=lambda context: tuple(sorted(context.items())),
    )
)
def test_contexts_are_never_confused(
    contexts: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No two different contexts have the same canonical form, lone surrogates included."""
    keyring = Keyring.create(tmp_path_factory.mktemp("ring") / "keyring.json")
    keyring.ensure(ARN, enable_rotation=False, now_ms=0)
    key = keyring.key(ARN)
    with pytest.raises(errors.Integrity):
        key.decrypt(key.generate_data_key(contexts[0]).wrapped, contexts[1])


def test_rotation_keeps_old_versions(keyring: Keyring) -> None:
    """After a rotation new data keys use the new version and old ones still unwrap."""
    key = keyring.key(ARN)
    old = key.generate_data_key(CONTEXT)
    assert keyring.rotate(ARN, now_ms=1) == 2
    new = key.generate_data_key(CONTEXT)
    assert (old.wrapped[4], new.wrapped[4]) == (1, 2)
    assert key.decrypt(old.wrapped, CONTEXT) == old.plaintext
    assert key.decrypt(new.wrapped, CONTEXT) == new.plaintext


def test_yearly_rotation_is_for_those_that_rotate(keyring: Keyring) -> None:
    """Rotation is due a year after the newest version, and only where it is enabled."""
    assert keyring.rotate_due(364 * DAY_MS) == ()
    assert keyring.rotate_due(365 * DAY_MS) == (ARN,)
    assert keyring.rotate_due(366 * DAY_MS) == ()


@pytest.mark.parametrize("state", ["Disabled", "PendingDeletion"])
def test_unusable_states_refuse_both_ways(keyring: Keyring, state: str) -> None:
    """A KMS key that is disabled or pending deletion neither wraps nor unwraps."""
    key = keyring.key(ARN)
    data_key = key.generate_data_key(CONTEXT)
    if state == "Disabled":
        keyring.set_enabled(ARN, False)
    else:
        keyring.schedule_deletion(ARN, days=7, now_ms=0)
    assert keyring.kms_keys()[ARN].state == state
    with pytest.raises(errors.CouldNot, match=ARN):
        key.generate_data_key(CONTEXT)
    with pytest.raises(errors.CouldNot, match=ARN):
        key.decrypt(data_key.wrapped, CONTEXT)
    if state == "Disabled":
        keyring.set_enabled(ARN, True)
    else:
        keyring.ensure(ARN, enable_rotation=True, now_ms=0)  # back in the template
    assert key.decrypt(data_key.wrapped, CONTEXT) == data_key.plaintext


def test_ensure_leaves_a_disabled_key_disabled(keyring: Keyring) -> None:
    """Applying the template again does not undo what an operator disabled."""
    keyring.set_enabled(ARN, False)
    keyring.ensure(ARN, enable_rotation=False, now_ms=5)
    info = keyring.kms_keys()[ARN]
    assert (info.state, info.rotation_enabled, len(info.versions)) == ("Disabled", False, 1)


def test_removal_waits_for_its_window(keyring: Keyring) -> None:
    """A KMS key goes only after its deletion was scheduled and its window has passed."""
    with pytest.raises(errors.Conflict):
        keyring.remove(ARN, now_ms=10**15)
    keyring.schedule_deletion(ARN, days=7, now_ms=0)
    keyring.schedule_deletion(ARN, days=7, now_ms=DAY_MS)  # keeps its date
    with pytest.raises(errors.Conflict):
        keyring.remove(ARN, now_ms=7 * DAY_MS - 1)
    with pytest.raises(errors.Conflict):
        keyring.set_enabled(ARN, True)
    keyring.remove(ARN, now_ms=7 * DAY_MS)
    with pytest.raises(errors.NotFound):
        keyring.key(ARN)
    assert OTHER in keyring.kms_keys()


def test_unknown_key_is_not_found_and_nothing_is_made(keyring: Keyring) -> None:
    """Asking for a KMS key creates none."""
    with pytest.raises(errors.NotFound):
        keyring.key("arn:unknown")
    assert set(keyring.kms_keys()) == {ARN, OTHER}


def test_a_change_by_another_process_is_seen_at_once(keyring: Keyring, tmp_path: Path) -> None:
    """Every use looks whether the file changed."""
    key = keyring.key(ARN)
    key.generate_data_key(CONTEXT)
    code = (
        "import sys; from pathlib import Path; from feedgate.kms.keyring import Keyring;"
        "Keyring.open(Path(sys.argv[1])).set_enabled(sys.argv[2], False)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "keyring.json", ARN], check=True)
    with pytest.raises(errors.CouldNot):
        key.generate_data_key(CONTEXT)


def test_concurrent_changes_are_all_kept(keyring: Keyring) -> None:
    """Changes take turns under a lock; none is lost."""
    threads = [
        threading.Thread(
            target=lambda n=n: keyring.ensure(f"arn:{n}", enable_rotation=False, now_ms=n)
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(keyring.kms_keys()) == {ARN, OTHER, *(f"arn:{n}" for n in range(8))}


def test_file_is_the_owners_only(keyring: Keyring, tmp_path: Path) -> None:
    """The file has mode 0600, also after a change, and one that others may read is refused."""
    path = tmp_path / "keyring.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    os.chmod(path, 0o640)
    with pytest.raises(errors.CouldNot, match="others may read"):
        Keyring.open(path)


def test_open_says_what_is_wrong(tmp_path: Path) -> None:
    """A missing, damaged or newer file is refused in words."""
    path = tmp_path / "keyring.json"
    with pytest.raises(errors.CouldNot):
        Keyring.open(path)
    Keyring.create(path)
    with pytest.raises(errors.Conflict):
        Keyring.create(path)
    for text, kind in [
        ('{"format": 2, "kms_keys": {}}', errors.CouldNot),
        ("{", errors.Integrity),
        ("[]", errors.Integrity),
        ('{"format": 1, "kms_keys": {"a": {}}}', errors.Integrity),
        (
            '{"format": 1, "kms_keys": {"a": {"state": "Enabled", "rotation_enabled": true,'
            ' "deletion_at_ms": null, "versions": []}}}',
            errors.Integrity,
        ),
    ]:
        path.write_text(text)
        with pytest.raises(kind):
            Keyring.open(path)


def test_secrets_do_not_show_in_representations(keyring: Keyring) -> None:
    """Neither a data key nor a version prints its bytes."""
    data_key = keyring.key(ARN).generate_data_key(CONTEXT)
    version = keyring.kms_keys()[ARN].versions[0]
    shown = repr(data_key) + repr(version) + repr(keyring.kms_keys())
    for secret in (data_key.plaintext, version.material):
        assert repr(secret) not in shown
        assert secret.hex() not in shown


def test_s3_context_is_the_objects_or_the_buckets_arn() -> None:
    """With the S3 Bucket Key on, the context names the bucket, otherwise the object."""
    arn = "arn:aws:s3:::landing"
    assert s3_encryption_context(arn, "a/b", bucket_key_enabled=True) == {"aws:s3:arn": arn}
    assert s3_encryption_context(arn, "a/b", bucket_key_enabled=False) == {
        "aws:s3:arn": f"{arn}/a/b"
    }
