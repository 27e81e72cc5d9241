"""What every form of a bucket promises. A new form adds a factory to ``FORMS``, not tests."""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedgate import errors, limits
from feedgate.database import Database, Transaction
from feedgate.kms.keyring import Keyring
from feedgate.storage import embedded
from feedgate.storage.bucket import Bucket, ObjectInfo, Upload
from feedgate.storage.embedded import EmbeddedBucket

T = TypeVar("T")
KMS_KEY_ARN = "arn:aws:kms:us-east-1:000000000000:key/k"
INLINE = limits.INLINE_OBJECT_BYTES_MAX - 56
SIZES = [0, 1, 4096, INLINE - 1, INLINE, INLINE + 1, 65_536, 200_000, 3_000_000]


@dataclass(frozen=True)
class Form:
    """A form under test: two buckets of one store, and how to commit."""

    bucket: Bucket
    neighbour: Bucket
    commit: Callable[[Callable[[Transaction], object]], object]

    def write(self, key: str, data: bytes, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        """Upload in one piece and publish."""
        upload = self.bucket.begin_upload(key, owner="test", metadata=metadata)
        upload.write(0, [data])
        return self.publish(upload)

    def publish(self, upload: Upload) -> ObjectInfo:
        """Finish an upload and make it visible."""
        staged = upload.finish()
        info = self.commit(lambda tx: self.bucket.publish(tx, staged))
        assert isinstance(info, ObjectInfo)
        return info

    def read(self, key: str) -> bytes | None:
        """The whole object, or None."""
        reader = self.bucket.open(key)
        if reader is None:
            return None
        try:
            return reader.pread(0, reader.info.size + 1)
        finally:
            reader.close()

    def all_keys(self) -> list[str]:
        """Every key of the bucket."""
        return [info.key for info in self.bucket.list().objects]


@contextmanager
def embedded_form(folder: Path, *, bucket_key_enabled: bool) -> Iterator[Form]:
    """``storage.embedded`` in a folder."""
    database = Database(folder)
    database.migrate(embedded.MIGRATIONS)
    keyring = Keyring.create(folder / "keyring.json")
    keyring.ensure(KMS_KEY_ARN, enable_rotation=False, now_ms=0)

    def bucket(name: str) -> EmbeddedBucket:
        return EmbeddedBucket(
            name=name,
            arn=f"arn:aws:s3:::{name}",
            database=database,
            folder=folder,
            kms=keyring.key(KMS_KEY_ARN),
            bucket_key_enabled=bucket_key_enabled,
            space_floor_bytes=0,
        )

    yield Form(bucket("landing"), bucket("neighbour"), database.write_now)
    database.close()


FORMS: dict[str, Callable[[Path], AbstractContextManager[Form]]] = {
    "embedded": lambda folder: embedded_form(folder, bucket_key_enabled=False),
    "embedded-bucket-key": lambda folder: embedded_form(folder, bucket_key_enabled=True),
}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Iterator[Form]:
    """Each form in turn, fresh; in memory where there is such a place, for speed."""
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() else None
    with (
        tempfile.TemporaryDirectory(dir=place) as folder,
        FORMS[request.param](Path(folder)) as opened,
    ):
        yield opened


@pytest.fixture(scope="module", params=FORMS)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Form]:
    """Each form in turn, one for all examples of a property; examples use keys of their own."""
    with FORMS[request.param](tmp_path_factory.mktemp("shared")) as opened:
        yield opened


class TestReadAndWrite:
    """One object."""

    @pytest.mark.parametrize("size", SIZES)
    def test_round_trip(self, form: Form, size: int) -> None:
        """What was written is read, and size, SHA-256 and metadata say so."""
        data = random.Random(size).randbytes(size)
        info = form.write("a/b.csv", data, {"landing": "01ABC", "ü": "\udcff"})
        assert form.read("a/b.csv") == data
        assert (info.bucket, info.key, info.size) == ("landing", "a/b.csv", size)
        assert info.sha256 == hashlib.sha256(data).hexdigest()
        assert info.metadata == {"landing": "01ABC", "ü": "\udcff"}
        assert info.kms_key_arn == KMS_KEY_ARN
        assert form.bucket.head("a/b.csv") == info
        assert form.bucket.list().objects == (info,)

    def test_nothing_is_there_before_publish(self, form: Form) -> None:
        """Neither begun nor finished uploads are visible; the transaction makes them so."""
        upload = form.bucket.begin_upload("k", owner="test")
        upload.write(0, [bytes(100_000)])
        assert (form.read("k"), form.all_keys()) == (None, [])
        staged = upload.finish()
        assert (staged.size, staged.key) == (100_000, "k")
        assert (form.read("k"), form.all_keys()) == (None, [])
        form.commit(lambda tx: form.bucket.publish(tx, staged))
        assert form.all_keys() == ["k"]

    def test_transaction_that_fails_publishes_nothing(self, form: Form) -> None:
        """Object and whatever else the transaction does become visible together or not at all."""
        staged = []
        for size in (10, 100_000):
            upload = form.bucket.begin_upload(f"k{size}", owner="test")
            upload.write(0, [bytes(size)])
            staged.append(upload.finish())

        def fail(tx: Transaction) -> None:
            for one in staged:
                form.bucket.publish(tx, one)
            raise ValueError

        with pytest.raises(ValueError):  # noqa: PT011
            form.commit(fail)
        assert form.all_keys() == []
        for one in staged:
            form.commit(lambda tx, one=one: form.bucket.publish(tx, one))
        assert form.all_keys() == ["k10", "k100000"]

    @pytest.mark.parametrize("size", [10, 500_000])
    @pytest.mark.parametrize("finished", [False, True])
    def test_abort_forgets(self, form: Form, size: int, finished: bool) -> None:
        """After abort, which may be called twice, nothing is there and the key can be written."""
        upload = form.bucket.begin_upload("k", owner="test")
        upload.write(0, [bytes(size)])
        if finished:
            upload.finish()
        upload.abort()
        upload.abort()
        assert form.all_keys() == []
        form.write("k", b"after")
        assert form.read("k") == b"after"

    @pytest.mark.parametrize("size", [10, 500_000])
    def test_abort_after_publish_changes_nothing(self, form: Form, size: int) -> None:
        """A caller may abort in its clean-up whatever happened: a published object stays."""
        upload = form.bucket.begin_upload("k", owner="test")
        upload.write(0, [b"x" * size])
        form.publish(upload)
        upload.abort()
        assert form.read("k") == b"x" * size

    def test_pieces_may_be_reused_after_write(self, form: Form) -> None:
        """Whatever kind of buffer a piece is, its bytes are taken before write returns."""
        upload = form.bucket.begin_upload("k", owner="test")
        buffer = bytearray(b"1" * 50_000)
        for offset in (0, 50_000, 150_000, 100_000):
            upload.write(offset, [memoryview(buffer)[:25_000], memoryview(buffer)[25_000:]])
            buffer[:] = bytes([buffer[0] + 1]) * len(buffer)
        form.publish(upload)
        assert form.read("k") == b"".join(digit * 50_000 for digit in (b"1", b"2", b"4", b"3"))

    def test_size_grows_to_the_highest_byte(self, form: Form) -> None:
        """``size`` is the highest byte written so far plus one."""
        upload = form.bucket.begin_upload("k", owner="test")
        seen = []
        for offset in (10, 0, 200_000, 100):
            upload.write(offset, [b"12345"])
            seen.append(upload.size)
        upload.write(300_000, [])
        assert seen == [15, 15, 200_005, 200_005]
        assert form.publish(upload).size == upload.size == 200_005


class TestAnyOrder:
    """Writes in any order, over one another, with gaps."""

    @settings(
        max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        writes=st.lists(
            st.tuples(st.integers(0, 150_000), st.integers(1, 60_000)), min_size=1, max_size=12
        ),
        size=st.sampled_from([1, 10, 1000]),
    )
    def test_writes_equal_writes_to_an_array(
        self, shared: Form, writes: list[tuple[int, int]], size: int
    ) -> None:
        """The object is what an array of zeros would hold after the same writes."""
        upload = shared.bucket.begin_upload("any", owner="test")
        model = bytearray()
        for number, (offset, length) in enumerate(writes):
            at, count = offset // size, -(-length // size)
            data = bytes([number + 1]) * count
            model.extend(bytes(max(0, at + count - len(model))))
            model[at : at + count] = data
            upload.write(at, [data[: count // 2], data[count // 2 :]])
        info = shared.publish(upload)
        assert shared.read("any") == model
        assert info.sha256 == hashlib.sha256(model).hexdigest()

    @pytest.mark.parametrize("order", ["backwards", "shuffled", "two streams", "odd first"])
    def test_reordered_packets(self, form: Form, order: str) -> None:
        """Four MiB in packets of 32 KiB, out of order inside the window, arrive whole."""
        data = random.Random(1).randbytes(4 << 20)
        step = 32 * 1024
        offsets = list(range(0, len(data), step))
        if order == "backwards":
            offsets.reverse()
        elif order == "shuffled":
            random.Random(2).shuffle(offsets)
        elif order == "two streams":
            half = len(offsets) // 2
            offsets = [o for pair in zip(offsets[:half], offsets[half:], strict=True) for o in pair]
        else:
            offsets = offsets[1::2] + offsets[::2]
        upload = form.bucket.begin_upload("k", owner="test")
        for offset in offsets:
            upload.write(offset, [data[offset : offset + step]])
        form.publish(upload)
        assert form.read("k") == data

    @settings(
        max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        size=st.integers(0, 400_000),
        hole=st.integers(0, 100_000),
        reads=st.lists(st.tuples(st.integers(0, 450_000), st.integers(0, 300_000)), max_size=6),
    )
    def test_every_pread_is_a_slice(
        self, shared: Form, size: int, hole: int, reads: list[tuple[int, int]]
    ) -> None:
        """Reads of any length at any offset equal slices; only the end makes them short."""
        data = random.Random(size).randbytes(size)
        upload = shared.bucket.begin_upload("slices", owner="test")
        upload.write(0, [data[: size // 2]])
        upload.write(size // 2 + hole, [data[size // 2 :]])
        shared.publish(upload)
        whole = data[: size // 2] + bytes(hole if size else 0) + data[size // 2 :]
        reader = shared.bucket.open("slices")
        assert reader is not None
        assert reader.info.size == len(whole)
        for offset, length in reads:
            assert reader.pread(offset, length) == whole[offset : offset + length]
        reader.close()


class TestReplaceMoveDelete:
    """What happens to keys."""

    @pytest.mark.parametrize("size", [10, 500_000])
    def test_reader_outlives_replacement_and_deletion(self, form: Form, size: int) -> None:
        """An open object stays what it was when its key gets other bytes or is deleted."""
        first = form.write("k", b"1" * size)
        reader = form.bucket.open("k")
        assert reader is not None
        second = form.write("k", b"2" * size)
        assert form.read("k") == b"2" * size
        assert first.version_id != second.version_id
        assert first.object_id != second.object_id
        assert form.commit(lambda tx: form.bucket.delete(tx, "k")) is True
        assert form.read("k") is None
        assert reader.info == first
        assert reader.pread(0, size) == b"1" * size
        reader.close()
        reader.close()

    def test_delete_says_whether_there_was_one(self, form: Form) -> None:
        """Deleting what is not there is False, and no error."""
        form.write("k", b"")
        assert form.commit(lambda tx: form.bucket.delete(tx, "k")) is True
        assert form.commit(lambda tx: form.bucket.delete(tx, "k")) is False
        assert (form.bucket.head("k"), form.bucket.open("k"), form.all_keys()) == (None, None, [])

    @pytest.mark.parametrize("size", [10, 500_000])
    def test_move_keeps_bytes_and_identity(self, form: Form, size: int) -> None:
        """A moved object is the same version under its new key; what was there is replaced."""
        before = form.write("a", b"a" * size, {"m": "1"})
        form.write("b", b"b")
        after = form.commit(lambda tx: form.bucket.move(tx, "a", "b"))
        assert isinstance(after, ObjectInfo)
        assert (after.key, after.version_id, after.object_id) == (
            "b",
            before.version_id,
            before.object_id,
        )
        assert (after.metadata, after.sha256) == (before.metadata, before.sha256)
        assert form.bucket.head("b") == after
        assert form.all_keys() == ["b"]
        assert form.read("b") == b"a" * size
        form.commit(lambda tx: form.bucket.move(tx, "b", "b"))
        form.commit(lambda tx: form.bucket.move(tx, "b", "dir/c"))
        assert form.read("dir/c") == b"a" * size

    def test_move_of_nothing_is_not_found(self, form: Form) -> None:
        """Moving a key that does not exist raises NotFound and leaves the target alone."""
        form.write("b", b"b")
        with pytest.raises(errors.NotFound):
            form.commit(lambda tx: form.bucket.move(tx, "a", "b"))
        assert form.read("b") == b"b"

    def test_buckets_do_not_see_each_other(self, form: Form) -> None:
        """The same key in another bucket is another object."""
        form.write("k", b"here")
        assert form.neighbour.head("k") is None
        assert form.neighbour.list().objects == ()
        assert form.commit(lambda tx: form.neighbour.delete(tx, "k")) is False
        assert form.read("k") == b"here"

    def test_last_publish_wins(self, form: Form) -> None:
        """Two uploads of one key at once both succeed; the one published last is there."""
        uploads = [form.bucket.begin_upload("k", owner="test") for _ in range(2)]
        for number, upload in enumerate(uploads):
            upload.write(0, [bytes([number]) * 100_000])
        for upload in reversed(uploads):
            form.publish(upload)
        assert form.read("k") == bytes(100_000)


KEYS = st.lists(
    st.text(alphabet="ab/-é\U0001f4c4\x00", min_size=1, max_size=6), max_size=25, unique=True
)


def oracle_list(
    keys: list[str], prefix: str, delimiter: str, start_after: str, max_keys: int
) -> tuple[list[str], list[str], str | None]:
    """ListObjectsV2 as its documentation says it, over a plain list."""
    entries: dict[bytes, tuple[str, bool]] = {}
    for key in sorted(keys, key=str.encode):
        if not key.startswith(prefix) or key.encode() <= start_after.encode():
            continue
        rest = key[len(prefix) :]
        shared = bool(delimiter) and delimiter in rest
        name = prefix + rest[: rest.index(delimiter) + len(delimiter)] if shared else key
        if shared and name == start_after:
            continue  # that common prefix was listed already
        entries.setdefault(name.encode(), (name, shared))
    page = [entry for _, entry in sorted(entries.items())]
    more = len(page) > max_keys > 0
    page = page[:max_keys]
    return (
        [name for name, shared in page if not shared],
        [name for name, shared in page if shared],
        page[-1][0] if more else None,
    )


class TestList:
    """Listing."""

    @settings(
        max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        keys=KEYS,
        query=st.tuples(
            st.text(alphabet="ab/é", max_size=3),
            st.sampled_from(["", "/", "b", "/a"]),
            st.text(alphabet="ab/é", max_size=4),
            st.sampled_from([0, 1, 2, 5, 1000]),
        ),
    )
    def test_list_equals_a_plain_reference(
        self, shared: Form, keys: list[str], query: tuple[str, str, str, int]
    ) -> None:
        """Every page equals that of a short obvious reference, and so does the whole walk."""
        prefix, delimiter, start_after, max_keys = query
        self.replace_all(shared, keys)
        listing = shared.bucket.list(
            prefix, delimiter=delimiter, start_after=start_after, max_keys=max_keys
        )
        expected = oracle_list(keys, prefix, delimiter, start_after, max_keys)
        got = [info.key for info in listing.objects]
        assert (got, list(listing.common_prefixes), listing.next_start_after) == expected
        if max_keys:
            walked = self.walk(shared, prefix, delimiter, max_keys)
            objects, common, _ = oracle_list(keys, prefix, delimiter, "", 10_000)
            assert walked == (objects, common)

    def replace_all(self, form: Form, keys: list[str]) -> None:
        """Make the bucket hold these keys."""
        staged = []
        for key in keys:
            upload = form.bucket.begin_upload(key, owner="test")
            staged.append(upload.finish())

        def replace(tx: Transaction) -> None:
            for old in form.all_keys():
                form.bucket.delete(tx, old)
            for one in staged:
                form.bucket.publish(tx, one)

        form.commit(replace)

    def walk(
        self, form: Form, prefix: str, delimiter: str, max_keys: int
    ) -> tuple[list[str], list[str]]:
        """All pages together."""
        objects: list[str] = []
        common: list[str] = []
        start_after: str | None = ""
        while start_after is not None:
            page = form.bucket.list(
                prefix, delimiter=delimiter, start_after=start_after, max_keys=max_keys
            )
            objects += [info.key for info in page.objects]
            common += page.common_prefixes
            start_after = page.next_start_after
        return objects, common

    def test_order_is_that_of_utf8_bytes(self, form: Form) -> None:
        """U+FF5E sorts before U+1F4C4, as their UTF-8 bytes do and their UTF-16 units do not."""
        keys = ["a", "a/", "a/b", "a0", "B", "\uff5e", "\U0001f4c4"]
        self.replace_all(form, keys)
        assert form.all_keys() == ["B", "a", "a/", "a/b", "a0", "\uff5e", "\U0001f4c4"]

    def test_object_and_prefix_of_one_name(self, form: Form) -> None:
        """``a``, ``a/`` and ``a/b`` are three objects; a listing of the root shows two entries."""
        self.replace_all(form, ["a", "a/", "a/b"])
        listing = form.bucket.list(delimiter="/")
        assert [info.key for info in listing.objects] == ["a"]
        assert listing.common_prefixes == ("a/",)
        inside = form.bucket.list("a/", delimiter="/")
        assert [info.key for info in inside.objects] == ["a/", "a/b"]

    def test_a_page_has_at_most_a_thousand(self, form: Form) -> None:
        """``max_keys`` above S3's limit is that limit."""
        self.replace_all(form, [f"{n:04}" for n in range(1001)])
        page = form.bucket.list(max_keys=5000)
        assert (len(page.objects), page.next_start_after) == (1000, "0999")


class TestKeys:
    """Which names an object can have."""

    @pytest.mark.parametrize(
        "key",
        ["a" * 1024, "é" * 512, "../x", "/", "//", ".", "a\nb", "a\x00b", "%2e", "*?[", "\u202e"],
    )
    def test_any_utf8_name_is_just_a_name(self, form: Form, key: str) -> None:
        """No name means anything but itself."""
        form.write(key, b"1")
        assert form.all_keys() == [key]
        assert form.read(key) == b"1"

    @pytest.mark.parametrize("key", ["", "a" * 1025, "é" * 513, "\udc80"])
    def test_other_names_are_refused(self, form: Form, key: str) -> None:
        """Empty, longer than 1,024 bytes or not UTF-8: such a key cannot be made or exist."""
        with pytest.raises(errors.Unsupported):
            form.bucket.begin_upload(key, owner="test")
        form.write("k", b"")
        with pytest.raises(errors.Unsupported):
            form.commit(lambda tx: form.bucket.move(tx, "k", key))
        assert form.bucket.head(key) is None
        assert form.bucket.open(key) is None
        assert form.commit(lambda tx: form.bucket.delete(tx, key)) is False
        with pytest.raises(errors.NotFound):
            form.commit(lambda tx: form.bucket.move(tx, key, "other"))
        assert form.bucket.list(key or "\udc80").objects == ()


def test_holds_below_agrees_with_a_listing(form: Form) -> None:
    """What lies under a prefix is told as a listing tells it, not what begins alike."""
    for key in ("d/a", "e", "e-f", "g0", "h/"):
        form.write(key, b"x")
    for prefix in ("d/", "e/", "g/", "h/", "d", "z/", "k" * 1024 + "/"):
        assert form.bucket.holds_below(prefix) == bool(form.bucket.list(prefix).objects), prefix
    form.commit(lambda tx: form.bucket.delete(tx, "d/a"))
    assert not form.bucket.holds_below("d/")
    assert not form.neighbour.holds_below("h/")
