"""Two tables decide what a supplier reads: error → code, code → text. Internal text never leaves.

Texts are OpenSSH's, except where AWS Transfer's are documented (facts from threads in which its
servers answered: pkg/sftp#305, sftpgo#724, paramiko#1969).
"""

from __future__ import annotations

from typing import Final

from feedgate.errors import AccessDenied, FeedgateError, NoSpace, NotFound, Unsupported
from feedgate.sftp.packets import MalformedError

__all__ = [
    "BAD_MESSAGE",
    "EOF",
    "FAILURE",
    "NO_SUCH_FILE",
    "OK",
    "OP_UNSUPPORTED",
    "PERMISSION_DENIED",
    "TEXTS",
    "status_of",
]

OK: Final = 0
EOF: Final = 1
NO_SUCH_FILE: Final = 2
PERMISSION_DENIED: Final = 3
FAILURE: Final = 4
BAD_MESSAGE: Final = 5
OP_UNSUPPORTED: Final = 8

# the first class that fits decides
_CODES: Final[tuple[tuple[type[Exception], int], ...]] = (
    (NotFound, NO_SUCH_FILE),
    (AccessDenied, PERMISSION_DENIED),
    (Unsupported, OP_UNSUPPORTED),
    (MalformedError, BAD_MESSAGE),
    (Exception, FAILURE),
)

TEXTS: Final = {
    OK: "Success",
    EOF: "End of file",
    NO_SUCH_FILE: "No such file",
    PERMISSION_DENIED: "Permission denied",
    FAILURE: "Failure",
    BAD_MESSAGE: "Bad message",
    OP_UNSUPPORTED: "Operation unsupported",
}

# of an error's own texts, those that a supplier may read: they are AWS's and hold no input
_OWN_TEXTS: Final = frozenset(
    {"Cannot rename a directory", "SETSTAT unsupported", "FSETSTAT unsupported"}
)


def status_of(error: Exception) -> tuple[int, str]:
    """Code and text for an error. Unknown ones are a plain failure."""
    code = next(code for kind, code in _CODES if isinstance(error, kind))
    if isinstance(error, NoSpace):
        return code, "no space"
    if isinstance(error, FeedgateError) and error.message in _OWN_TEXTS:
        return code, error.message
    return code, TEXTS[code]
