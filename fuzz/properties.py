"""What must hold for any bytes: the properties that the fuzzers try to break.

Each is a function of bytes that returns nothing and raises only if the property is broken.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from feedgate.errors import NotFound, UsageError
from feedgate.files.mapping import HomeMapping, Mapped, normalise
from feedgate.sftp.attributes import decode_attributes
from feedgate.sftp.packets import WRITE, Fields, Framer, MalformedError, Request
from feedgate.stack.resources import HomeDirectoryMapping, User

__all__ = ["PROPERTIES", "mapping", "packets"]

_FIELDS: Final = ("uint32", "uint64", "string")


# -- the packet codec -----------------------------------------------------------------------------


def packets(data: bytes) -> None:
    """Framing does not depend on the pieces; nothing but MalformedError leaves the codec.

    The first byte says how the rest is cut into pieces.
    """
    if not data:
        return
    step, stream = 1 + data[0] % 64, data[1:]
    whole = _framed([stream])
    pieces = _framed([stream[at : at + step] for at in range(0, len(stream), step)])
    assert whole == pieces, "framing depends on the pieces"
    for packet_type, _id, body, offset, payload in whole[0]:
        if packet_type == WRITE and payload is not None:
            assert 0 <= offset < 2**64
        _read_fields(body)


def _framed(pieces: list[bytes]) -> tuple[list[tuple[int, int, bytes, int, bytes | None]], bool]:
    """The requests as values, and whether the stream ended in a fatal error."""
    framer = Framer()
    found: list[Request] = []
    try:
        for piece in pieces:
            found += framer.feed(piece)
    except MalformedError as error:
        if not error.fatal:
            raise
        # requests before the bad length are lost with the whole feed, so only the end is compared
        return [], True
    values = []
    for request in found:
        payload = None if request.payload is None else b"".join(map(bytes, request.payload))
        values.append(
            (request.packet_type, request.request_id, request.body, request.offset, payload)
        )
    return values, False


def _read_fields(body: bytes) -> None:
    for reads in (_FIELDS, _FIELDS[::-1], ("string", "string", "uint32")):
        fields = Fields(body)
        with suppress(MalformedError):
            for name in reads:
                getattr(fields, name)()
    with suppress(MalformedError):
        decode_attributes(Fields(body))


# -- the path mapping -----------------------------------------------------------------------------


def _home(home: str, *mappings: tuple[str, str]) -> HomeMapping:
    user = User(
        logical_id="Fuzzed",
        user_name="acme",
        arn="arn:aws:transfer:us-east-1:000000000000:user/s-0123456789abcdef0/acme",
        role_arn="arn:aws:iam::000000000000:role/transfer",
        home_directory=home,
        home_directory_type="LOGICAL" if mappings else "PATH",
        home_directory_mappings=tuple(
            HomeDirectoryMapping(entry=entry, target=target) for entry, target in mappings
        ),
    )
    return HomeMapping.of(user)


# home, and what a path may become: (bucket, prefix of the key)
_HOMES: Final = (
    (_home("/", ("/", "/landing/acme")), {("landing", "acme")}),
    (
        _home("/in", ("/in", "/landing/acme/in"), ("/out/a", "/outgoing/${transfer:UserName}")),
        {("landing", "acme/in"), ("outgoing", "acme")},
    ),
    (_home("/landing/acme"), None),
)


def mapping(data: bytes) -> None:
    """A path becomes a key below a Target of its user, or is refused; and always the same one.

    The first byte picks the user.
    """
    if not data:
        return
    home, allowed = _HOMES[data[0] % len(_HOMES)]
    path = data[1:]
    with suppress(UsageError):
        components = normalise(path)
        assert not {"", ".", ".."} & set(components)
        assert normalise(("/" + "/".join(components)).encode()) == components
    try:
        found = home.resolve(path)
    except (NotFound, UsageError):
        return
    assert home.resolve(home.normalise(path).encode()) == found, "not the same the second time"
    if not isinstance(found, Mapped):
        return
    levels = found.key.split("/") if found.key else []
    assert not {"", ".", ".."} & set(levels)
    assert "\0" not in found.key
    assert len(found.key.encode()) <= 1024
    if allowed is not None:
        assert any(
            found.bucket == bucket and (found.key == prefix or found.key.startswith(f"{prefix}/"))
            for bucket, prefix in allowed
        ), f"{path!r} leads to {found.s3_path}"


PROPERTIES: Final[dict[str, Callable[[bytes], None]]] = {"packets": packets, "mapping": mapping}
