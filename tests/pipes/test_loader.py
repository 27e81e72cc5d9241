"""The loader over a real ledger and a real warehouse; only the bucket is a dictionary."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from feedgate.database import Database
from feedgate.errors import AccessDenied, CouldNot, Integrity, NotFound
from feedgate.kms.keyring import Keyring
from feedgate.ledger.receipts import Landing, PipeLoad
from feedgate.ledger.store import MIGRATIONS, Ledger, record_landing
from feedgate.limits import LOAD_ATTEMPTS_MAX, UNCLAIMED_S
from feedgate.pipes import loader as loader_module
from feedgate.pipes.duckdb import DuckDBWarehouse
from feedgate.pipes.loader import Loader
from feedgate.pipes.warehouse import LoadRequest, LoadResult, OutOfMemory
from feedgate.stack.warehouse import Pipe
from feedgate.storage import embedded
from feedgate.storage.garbage import collect
from feedgate.telemetry import EventLog


def _kit() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "warehouse_kit", Path(__file__).with_name("warehouse_kit.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


kit = _kit()
GOOD = b"id,customer,amount,at\n1,a,1,\n2,b,2,\n"
OTHER = b"id,customer,amount,at\n3,c,3,\n"
BAD = b"id,customer,amount,at\n1,a,secret,\n"


KMS_KEY_ARN = "arn:aws:kms:us-east-1:000000000000:key/k"


class CrashError(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@dataclasses.dataclass
class StoredObject:
    """An object; ``fault`` is what reading its second piece raises."""

    object_id: str
    data: bytes
    fault: Exception | None = None


class MemoryReader:
    """One open object."""

    def __init__(self, stored: StoredObject) -> None:
        self.info = stored
        self.closed = False

    def pread(self, offset: int, length: int) -> bytes:
        if self.info.fault is not None and offset > 0:
            raise self.info.fault
        return self.info.data[offset : offset + min(length, 20)]

    def close(self) -> None:
        self.closed = True


class NoSecret:
    """A sealer that hides nothing: these tests look at what the loader says."""

    def seal(self, text: bytes, context: bytes) -> bytes:
        return text

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        return sealed


class Place:
    """A ledger, a warehouse, a bucket of objects, a clock, and whatever loader runs now."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.database = Database(folder)
        self.database.migrate(MIGRATIONS)
        self.ledger = Ledger(self.database, sealer=NoSecret())
        self.declared = kit.declared()
        self.warehouse = DuckDBWarehouse(folder / "warehouse", kit.KEY)
        self.warehouse.apply(self.declared)
        self.objects: dict[str, StoredObject] = {}
        self.replaced: dict[str, StoredObject] = {}
        self.denied: set[str] = set()
        self.readers: list[MemoryReader] = []
        self.now_s = kit.NOW
        self.log = io.StringIO()
        self.crash_point = ""
        self.told: list[PipeLoad] = []
        self.loader = self.new_loader()

    def new_loader(self) -> Loader:
        """A loader as a process that has just started makes it."""
        return Loader(
            self.declared,
            warehouse=self.warehouse,
            landings=self.ledger,
            open_object=self.open_object,
            now=lambda: self.now_s,
            log=EventLog(self.log, now=lambda: self.now_s),
            crash_at=self.crash_at,
            on_loaded=self.told.append,
        )

    def open_object(self, pipe: Pipe, landing: Landing) -> MemoryReader:
        if landing.key in self.denied:
            raise AccessDenied("`s3:GetObject` is denied: no statement allows it")
        stored = self.objects.get(landing.key)
        if stored is None or stored.object_id != landing.object_id:
            stored = self.replaced.get(landing.object_id)
        if stored is None:
            raise NotFound("not there")
        reader = MemoryReader(stored)
        self.readers.append(reader)
        return reader

    def crash_at(self, point: str) -> None:
        if point == self.crash_point:
            raise CrashError(point)

    def put(self, landing_id: str, key: str, data: bytes) -> Landing:
        """An upload that became visible."""
        landing: Landing = kit.landing(landing_id, key, data)
        if key in self.objects:
            self.replaced[self.objects[key].object_id] = self.objects[key]
        self.objects[key] = StoredObject(landing.object_id, data)
        self.database.write_now(lambda tx: record_landing(tx, landing))
        return landing

    def rename(self, landing_id: str, before: Landing, key: str) -> Landing:
        """A rename of a landing's object."""
        renamed = dataclasses.replace(
            before,
            landing_id=landing_id,
            key=key,
            kind="rename",
            origin_landing_id=before.origin_landing_id or before.landing_id,
        )
        self.objects[key] = self.objects.pop(before.key)
        self.database.write_now(lambda tx: record_landing(tx, renamed))
        return renamed

    def settle(self) -> None:
        """Step until nothing can be done."""
        while self.loader.step():
            pass

    def loads(self, landing_id: str) -> list[tuple[str, str]]:
        """(pipe, status) of a landing's receipt."""
        receipt = self.ledger.receipt(landing_id)
        assert receipt is not None
        return [(load.pipe.rpartition(".")[2], load.status) for load in receipt.loads]

    def load(self, landing_id: str) -> PipeLoad:
        """The only load of a receipt."""
        receipt = self.ledger.receipt(landing_id)
        assert receipt is not None
        (load,) = receipt.loads
        return load

    def ids(self) -> list[int]:
        """The ids of the orders that are visible."""
        return sorted(int(row[0]) for row in self.warehouse.query("SELECT id FROM orders").rows)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Everything that a loader needs, empty."""
    made = Place(tmp_path / "data")
    yield made
    assert all(reader.closed for reader in made.readers)
    made.warehouse.close()
    made.database.close()


def test_landings_become_rows_and_receipts(place: Place) -> None:
    """Each covered landing is loaded once; one that no pipe covers is done with; then all rests."""
    place.put("01A", "in/orders/a.csv", GOOD)
    place.put("01B", "elsewhere/b.csv", GOOD)
    place.put("01C", "in/partial/c.csv", OTHER + BAD.partition(b"\n")[2])
    assert place.loader.step() is True
    assert place.ids() == [1, 2, 3]
    assert place.loads("01A") == [("SKIPPING", "LOADED")]
    assert place.loads("01B") == []
    assert place.loads("01C") == [("CONTINUING", "PARTIALLY_LOADED")]
    assert [landing.landing_id for landing in place.ledger.pending(10)] == ["01B"]
    place.now_s += UNCLAIMED_S
    assert place.loader.step() is False
    assert not place.ledger.pending(10)
    assert place.told == [place.load("01A"), place.load("01C")]
    load = place.load("01A")
    assert (load.rows_parsed, load.rows_loaded, load.attempts) == (2, 2, 1)
    assert (load.table, load.loaded_at_ms) == ("LANDING.RAW.ORDERS", int(kit.NOW * 1000))


def test_bad_file_does_not_stop_the_pipe(place: Place) -> None:
    """A bad file is a receipt with its errors, its values are in no log, and the next one loads."""
    place.put("01A", "in/orders/a.csv", BAD)
    place.put("01B", "in/orders/b.csv", GOOD)
    place.settle()
    load = place.load("01A")
    assert (load.status, load.errors_seen) == ("LOAD_FAILED", 1)
    assert load.errors[0].message == "Numeric value 'secret' is not recognized"
    assert place.ids() == [1, 2]
    assert "secret" not in place.log.getvalue()


@pytest.mark.parametrize("point", ["load-claimed", "load-before-commit", "load-after-commit"])
def test_crash(place: Place, point: str) -> None:
    """A crash at each point, and the loader that comes after it: rows once, a receipt once."""
    place.put("01A", "in/orders/a.csv", GOOD)
    place.crash_point = point
    with pytest.raises(CrashError):
        place.loader.step()
    assert place.ids() == ([1, 2] if point == "load-after-commit" else [])
    place.crash_point = ""
    place.loader = place.new_loader()
    place.settle()
    assert place.ids() == [1, 2]
    assert place.loads("01A") == [("SKIPPING", "LOADED")]
    assert place.load("01A").rows_loaded == 2


def test_lost_ledger_entry_is_repaired_from_the_warehouse(place: Place) -> None:
    """A receipt that was not written is written from the history, though the object is gone."""
    place.put("01A", "in/orders/a.csv", BAD)
    place.crash_point = "load-after-commit"
    with pytest.raises(CrashError):
        place.loader.step()
    place.crash_point = ""
    place.objects.clear()
    place.settle()
    assert place.load("01A").status == "LOAD_FAILED"
    assert place.load("01A").errors[0].line == 2


def test_denied(place: Place) -> None:
    """An object that the integration may not read is a failed load that says why."""
    place.denied.add("in/orders/a.csv")
    place.put("01A", "in/orders/a.csv", GOOD)
    place.settle()
    load = place.load("01A")
    assert load.status == "LOAD_FAILED"
    assert load.message is not None
    assert "s3:GetObject" in load.message
    place.denied.clear()
    place.settle()
    assert place.ids() == []
    assert len(place.told) == 1


def test_damaged(place: Place) -> None:
    """An object that does not verify is a failed load; what was read before it stays nowhere."""
    place.put("01A", "in/partial/a.csv", GOOD * 3)
    place.objects["in/partial/a.csv"].fault = Integrity("segment 1 does not verify")
    place.settle()
    assert place.loads("01A") == [("CONTINUING", "LOAD_FAILED")]
    assert place.ids() == []


class Faulty:
    """A warehouse whose loads fail for a while."""

    def __init__(self, inner: DuckDBWarehouse, faults: list[Exception]) -> None:
        self._inner = inner
        self._faults = faults
        self.history = inner.history
        self.apply = inner.apply
        self.query = inner.query
        self.close = inner.close

    def load(self, request: LoadRequest) -> LoadResult:
        if self._faults and request.landing.landing_id == "01A":
            raise self._faults.pop()
        return self._inner.load(request)


@pytest.mark.parametrize("fault", [CouldNot("the disk is full"), ZeroDivisionError("secret")])
def test_fault_of_the_surroundings(place: Place, fault: Exception) -> None:
    """The landing stays pending and is tried again, ever later; others go on; nothing is twice."""
    loader = place.new_loader()
    loader._warehouse = Faulty(place.warehouse, [fault] * 2)
    place.put("01A", "in/orders/a.csv", GOOD)
    place.put("01B", "in/orders/b.csv", OTHER)
    while loader.step():
        pass
    assert place.ids() == [3]
    assert [landing.landing_id for landing in place.ledger.pending(9)] == ["01A"]
    place.now_s += 1.1
    assert loader.step() is False
    place.now_s += 1.1
    assert loader.step() is False
    place.now_s += 1.1
    assert loader.step() is True
    assert place.ids() == [1, 2, 3]
    assert place.load("01A").attempts == 3
    logged = [json.loads(line) for line in place.log.getvalue().splitlines()]
    assert [line["retry-in-s"] for line in logged] == [1.0, 2.0]
    assert "secret" not in place.log.getvalue()


def test_same_name_again(place: Place) -> None:
    """The same bytes are skipped; other bytes wait for a decision; both say so, none is loaded."""
    place.put("01A", "in/orders/a.csv", GOOD)
    place.settle()
    place.put("01B", "in/orders/a.csv", GOOD)
    place.put("01C", "in/orders/a.csv", OTHER)
    place.settle()
    assert place.loads("01B") == [("SKIPPING", "LOAD_SKIPPED")]
    assert place.loads("01C") == [("SKIPPING", "AWAITING_DECISION")]
    assert place.ids() == [1, 2]


def test_corrected_file_under_the_same_name(place: Place) -> None:
    """A file that failed may be sent again, corrected, under its name."""
    place.put("01A", "in/orders/a.csv", BAD)
    place.settle()
    place.put("01B", "in/orders/a.csv", GOOD)
    place.settle()
    assert place.loads("01B") == [("SKIPPING", "LOADED")]
    assert place.ids() == [1, 2]


def test_upload_under_a_temporary_name(place: Place) -> None:
    """What is uploaded under a name that no pipe covers is loaded when it gets one, once."""
    first = place.put("01A", "in/orders/a.csv.filepart", GOOD)
    place.settle()
    place.rename("01B", first, "in/orders/a.csv")
    place.settle()
    assert place.loads("01A") == []
    assert place.loads("01B") == [("SKIPPING", "LOADED")]
    assert place.ids() == [1, 2]


@pytest.mark.parametrize("loaded_first", [True, False])
def test_rename_within_a_pipe(place: Place, loaded_first: bool) -> None:
    """A rename keeps the landing: loaded once under its first name, whichever comes first."""
    first = place.put("01A", "in/orders/a.csv", GOOD)
    if loaded_first:
        place.settle()
    second = place.rename("01B", first, "in/orders/b.csv")
    place.rename("01C", second, "in/partial/c.csv")
    place.settle()
    assert place.loads("01A") == [("SKIPPING", "LOADED")]
    assert place.loads("01B") == []
    assert place.loads("01C") == [("CONTINUING", "LOADED")]
    assert place.ids() == [1, 1, 2, 2]


def test_gone_before_it_was_loaded(place: Place) -> None:
    """An object removed before it was loaded is a skipped load that says so."""
    place.put("01C", "in/orders/c.csv", GOOD)
    del place.objects["in/orders/c.csv"]
    place.settle()
    assert place.loads("01C") == [("SKIPPING", "LOAD_SKIPPED")]
    assert place.load("01C").message == "`in/orders/c.csv` was removed before it was loaded"


@pytest.mark.parametrize(
    ("second", "status"), [(OTHER, "AWAITING_DECISION"), (GOOD, "LOAD_SKIPPED")]
)
def test_two_quick_uploads_of_one_name(place: Place, second: bytes, status: str) -> None:
    """What was replaced before the loader came is loaded; what replaced it came second."""
    place.put("01A", "in/orders/a.csv", GOOD)
    place.put("01B", "in/orders/a.csv", second)
    place.settle()
    assert place.loads("01A") == [("SKIPPING", "LOADED")]
    assert place.loads("01B") == [("SKIPPING", status)]
    assert place.ids() == [1, 2]


def test_two_quick_uploads_to_a_bucket(place: Place) -> None:
    """The embedded bucket keeps the replaced version for its landing."""
    database, folder = place.database, place.folder
    database.migrate(embedded.MIGRATIONS)
    keyring = Keyring.create(folder / "keyring.json")
    keyring.ensure(KMS_KEY_ARN, enable_rotation=False, now_ms=0)
    bucket = embedded.EmbeddedBucket(
        name="bucket",
        arn="arn:aws:s3:::bucket",
        database=database,
        folder=folder,
        kms=keyring.key(KMS_KEY_ARN),
        bucket_key_enabled=False,
        space_floor_bytes=0,
    )
    for landing_id, data in (("01A", GOOD), ("01B", OTHER)):
        upload = bucket.begin_upload("in/orders/a.csv", owner="session")
        upload.write(0, [data])
        staged = upload.finish()
        info = database.write_now(lambda tx, staged=staged: bucket.publish(tx, staged))
        landing = dataclasses.replace(
            kit.landing(landing_id, "in/orders/a.csv", data),
            object_id=info.object_id,
            version_id=info.version_id,
        )
        database.write_now(lambda tx, landing=landing: record_landing(tx, landing))

    def open_object(_pipe: Pipe, landing: Landing) -> Any:
        reader = bucket.open_version(landing.object_id, landing.version_id)
        if reader is None:
            raise NotFound("not there")
        return reader

    collect(database, folder, int(kit.NOW * 1000), wanted=place.ledger.wanted)
    place.loader._open_object = open_object
    place.settle()
    assert place.loads("01A") == [("SKIPPING", "LOADED")]
    assert place.loads("01B") == [("SKIPPING", "AWAITING_DECISION")]
    assert place.ids() == [1, 2]


def test_refused_until_the_definition_allows_it(place: Place) -> None:
    """A refused object is read by the loader that a changed definition makes; a bad file is not."""
    place.denied.add("in/orders/a.csv")
    place.put("01A", "in/orders/a.csv", GOOD)
    place.put("01B", "in/orders/b.csv", BAD)
    place.put("01C", "in/orders/c.csv", OTHER)
    place.settle()
    assert place.loads("01A") == [("SKIPPING", "LOAD_FAILED")]
    assert place.ids() == [3]
    place.loader = place.new_loader()
    place.settle()
    assert place.loads("01A") == [("SKIPPING", "LOAD_FAILED")]
    assert len(place.told) == 4
    place.denied.clear()
    place.loader = place.new_loader()
    place.settle()
    assert place.loads("01A") == [("SKIPPING", "LOADED")]
    assert place.ids() == [1, 2, 3]
    assert not place.ledger.pending(9)


def test_refused_landings_are_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a refusal is final, so that the ledger's pending landings stay few."""
    monkeypatch.setattr(loader_module, "LOAD_REFUSED_MAX", 2)
    for number in range(5):
        key = f"in/orders/{number}.csv"
        place.denied.add(key)
        place.put(f"0{number}", key, GOOD)
    place.settle()
    assert [landing.landing_id for landing in place.ledger.pending(9)] == ["00", "01"]
    assert place.ledger.counts()["LOAD_FAILED"] == 5


@pytest.mark.parametrize("fault", [OutOfMemory("no memory left"), MemoryError()])
def test_out_of_memory_ends(place: Place, fault: Exception) -> None:
    """A file that runs out of memory is set aside after a few attempts, and the next one loads."""
    loader = place.new_loader()
    loader._warehouse = Faulty(place.warehouse, [fault] * 9)
    place.put("01A", "in/orders/a.csv", GOOD)
    place.put("01B", "in/orders/b.csv", OTHER)
    for _ in range(LOAD_ATTEMPTS_MAX):
        while loader.step():
            pass
        place.now_s += 60
    load = place.load("01A")
    assert (load.status, load.attempts) == ("LOAD_FAILED", LOAD_ATTEMPTS_MAX)
    assert load.message == "set aside after 3 attempts that ran out of memory or ended the loader"
    assert place.ids() == [3]
    assert not place.ledger.pending(9)


def test_file_that_ends_the_loader(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file whose load ends the process is set aside after a few starts."""
    monkeypatch.setattr(loader_module, "LOAD_CLAIM_BYTES", 20)
    place.put("01A", "in/orders/a.csv", GOOD)
    place.crash_point = "load-before-commit"
    for attempt in range(LOAD_ATTEMPTS_MAX):
        with pytest.raises(CrashError):
            place.loader.step()
        load = place.load("01A")
        assert (load.status, load.attempts) == ("PENDING", attempt + 1)
        place.loader = place.new_loader()
    place.settle()
    load = place.load("01A")
    assert (load.status, load.attempts) == ("LOAD_FAILED", LOAD_ATTEMPTS_MAX)
    assert not place.ledger.pending(9)
    place.crash_point = ""
    place.put("01B", "in/orders/a.csv", GOOD)
    place.settle()
    assert place.loads("01B") == [("SKIPPING", "LOADED")]


def test_other_faults_set_no_large_file_aside(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of the disk is no attempt that the file has to answer for."""
    monkeypatch.setattr(loader_module, "LOAD_CLAIM_BYTES", 20)
    place.put("01A", "in/orders/a.csv", GOOD)
    loader = place.new_loader()
    loader._warehouse = Faulty(place.warehouse, [CouldNot("the disk is full")] * 5)
    for _ in range(6):
        loader.step()
        place.now_s += 60
    assert place.loads("01A") == [("SKIPPING", "LOADED")]


def test_crash_of_the_oracle(place: Place) -> None:
    """Files and crashes mixed: what was acknowledged is loaded whole, and nothing twice."""
    points = ["load-claimed", "load-before-commit", "load-after-commit", ""]
    for number in range(24):
        data = b"id,customer,amount,at\n" + b"".join(
            b"%d,a,1,\n" % (number * 10 + n) for n in range(5)
        )
        place.put(f"0{number:02}", f"in/orders/{number}.csv", data)
        place.crash_point = points[number % 4]
        try:
            place.loader.step()
        except CrashError:
            place.loader = place.new_loader()
    place.crash_point = ""
    place.settle()
    assert place.ids() == sorted(number * 10 + n for number in range(24) for n in range(5))
    assert place.ledger.counts()["LOADED"] == 24
