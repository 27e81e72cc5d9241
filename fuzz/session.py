"""Records the SFTP packets of a good session, damages them, and replays them to a real gateway.

What must hold: each damaged session gets well-formed replies or the end of its channel, the worker
lives, nothing is logged as a fault of ours, and afterwards a good client is served.
"""

from __future__ import annotations

import importlib.util
import random
import struct
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from mutate import damaged

__all__ = ["ROOT", "damage_sessions", "good_session"]

ROOT = Path(__file__).parents[1]
REPLY_TYPES: Final = frozenset({2, 101, 102, 103, 104, 105, 201})
REPLY_WAIT_S: Final = 10
MEMORY_MIB_MAX: Final = 400


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _text(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def good_session() -> list[bytes]:
    """The packets of a session that uses every request; handles are those a new session gets."""
    packets = [b"\x01\0\0\0\x03"]

    def request(packet_type: int, *fields: bytes) -> None:
        packets.append(bytes([packet_type]) + len(packets).to_bytes(4, "big") + b"".join(fields))

    first, second = _text(b"\0\0\0\0"), _text(b"\0\0\0\1")
    path, attributes = _text(b"/fuzzed.csv"), bytes(4)
    times = struct.pack(">III", 8, 1_400_000_000, 1_400_000_000)
    request(16, _text(b"."))
    request(14, _text(b"/dir"), attributes)
    request(3, path, b"\0\0\0\x1a", attributes)
    request(6, first, bytes(8), _text(b"1,2\n" * 100))
    request(6, first, struct.pack(">Q", 400), _text(b"3,4\n" * 100))
    request(8, first)
    request(10, first, times)
    request(4, first)
    request(17, path)
    request(7, path)
    request(9, path, times)
    request(3, path, b"\0\0\0\x01", attributes)
    request(5, second, bytes(8), b"\0\0\x10\0")
    request(4, second)
    request(11, _text(b"/"))
    request(12, _text(b"\0\0\0\2"))
    request(12, _text(b"\0\0\0\2"))
    request(4, _text(b"\0\0\0\2"))
    request(18, path, _text(b"/dir/fuzzed.csv"))
    request(19, path)
    request(20, path, _text(b"/link"))
    for name in (b"limits@openssh.com", b"posix-rename@openssh.com", b"statvfs@openssh.com"):
        request(200, _text(name), path, path)
    request(200, _text(b"check-file-name"), path, _text(b"sha256"), bytes(20))
    request(13, _text(b"/dir/fuzzed.csv"))
    request(15, _text(b"/dir"))
    return packets


def _read_replies(channel: Any) -> None:
    """Take replies until the gateway ends the channel, as it must after EOF; check their form."""
    data = b""
    channel.settimeout(REPLY_WAIT_S)
    while more := channel.recv(65_536):
        data += more
        while len(data) >= 5:
            size = int.from_bytes(data[:4], "big")
            assert 1 <= size <= 256 * 1024 + 1024, f"a reply of {size} bytes"
            assert data[4] in REPLY_TYPES, f"a reply of type {data[4]}"
            if len(data) < 4 + size:
                break
            data = data[4 + size :]
    assert not data, "half a reply"


def damage_sessions(seconds: float, seed: int) -> int:
    """Replay damaged sessions for so long; how many. Raises AssertionError with the seed."""
    gateway_class = _module("feedgate_tests", ROOT / "tests" / "conftest.py").RunningGateway
    raw = _module("raw_client", ROOT / "tests" / "wire" / "raw_client.py")
    recorded = good_session()
    count = 0
    with tempfile.TemporaryDirectory(prefix="feedgate-") as folder:
        gateway = gateway_class(Path(folder))
        gateway.init()
        gateway.start("--workers", "1")
        worker = gateway.children()["worker"]
        try:
            ends = time.monotonic() + seconds
            while time.monotonic() < ends:
                transport = raw.RawTransport(gateway.port, gateway.user, gateway.key)
                for _ in range(8):
                    _replay(transport, recorded, random.Random(seed + count))  # noqa: S311
                    count += 1
                transport.kill()
                _look_at(gateway, worker, seed, count)
            _serve(raw, gateway)
        finally:
            code = gateway.stop()
        assert code == 0, f"seed {seed}: the gateway ended with {code}"
    return count


def _replay(transport: Any, recorded: list[bytes], rng: random.Random) -> None:
    """One damaged session on a channel of its own."""
    session = transport.sftp()
    packets = list(recorded)
    for _ in range(rng.randint(1, 5)):
        place = rng.randrange(1, len(packets))
        kind = rng.randrange(5)
        if kind == 0:
            del packets[place]
        elif kind == 1:
            packets.insert(place, packets[rng.randrange(len(packets))])
        elif kind == 2:
            other = rng.randrange(1, len(packets))
            packets[place], packets[other] = packets[other], packets[place]
        else:
            packets[place] = damaged(packets[place], rng)
    stream = b"".join(len(packet).to_bytes(4, "big") + packet for packet in packets)
    if rng.randrange(4) == 0:
        stream = damaged(stream, rng)
    with suppress(OSError, EOFError):  # a channel that ended early is an answer too
        session.channel.sendall(stream)
        session.channel.shutdown_write()
    _read_replies(session.channel)
    session.channel.close()


def _look_at(gateway: Any, worker: int, seed: int, count: int) -> None:
    where = f"seed {seed}, session {count}"
    assert gateway.children().get("worker") == worker, f"{where}: the worker died"
    faults = [line for line in gateway.log().splitlines() if '"level":"error"' in line]
    assert not faults, f"{where}: {faults[0]}"
    for line in Path(f"/proc/{worker}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            assert int(line.split()[1]) // 1024 <= MEMORY_MIB_MAX, f"{where}: {line}"


def _serve(raw: ModuleType, gateway: Any) -> None:
    """A client that means well."""
    transport = raw.RawTransport(gateway.port, gateway.user, gateway.key)
    session = transport.sftp()
    session.init()
    handle = session.open_write(b"/good")
    assert session.write(handle, 0, b"good")[0] == 0
    assert session.close_handle(handle)[0] == 0
    transport.close()
