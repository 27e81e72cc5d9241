"""Row errors as the ledger keeps them: positions in clear, texts sealed.

A row error's text may quote a field of a supplier's file. So it is never stored in clear: with a
``Sealer`` the errors are stored whole and sealed, bound to their landing and pipe; without one only
their positions are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

import msgspec

from feedgate.errors import RowError
from feedgate.ledger.receipts import PipeLoad

__all__ = ["WITHHELD", "Sealer", "positions", "seal_errors", "unseal_errors"]

WITHHELD: Final = "the text is withheld: it may quote the file"


class Sealer(Protocol):
    """Encrypts texts; its key is no business of the ledger. Form: ``gateway.sealing``.

    Blocking and thread-safe. Both raise ``errors.CouldNot`` when the key cannot be used, ``unseal``
    also ``errors.Integrity`` for another context or changed bytes.
    """

    def seal(self, text: bytes, context: bytes) -> bytes:
        """Encrypt, bound to ``context``."""
        ...

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """Decrypt."""
        ...


def positions(errors: Sequence[RowError]) -> tuple[RowError, ...]:
    """The errors without their texts: line, character, row, column and code stay."""
    return tuple(replace(error, message=WITHHELD) for error in errors)


def seal_errors(sealer: Sealer, load: PipeLoad) -> bytes | None:
    """The errors of a load, sealed; None where there are none."""
    if not load.errors:
        return None
    return sealer.seal(msgspec.json.encode(load.errors), _context(load.landing_id, load.pipe))


def unseal_errors(
    sealer: Sealer, sealed: bytes, landing_id: str, pipe: str
) -> tuple[RowError, ...]:
    """The inverse. Raises as ``Sealer``."""
    text = sealer.unseal(sealed, _context(landing_id, pipe))
    return msgspec.json.decode(text, type=tuple[RowError, ...])


def _context(landing_id: str, pipe: str) -> bytes:
    return msgspec.json.encode(["row errors", landing_id, pipe])
