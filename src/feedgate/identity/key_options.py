"""Options before a public key, as OpenSSH's authorized_keys has them: ``from=``, ``expiry-time=``.

sshd(8), AUTHORIZED_KEYS FILE FORMAT, and ssh_config(5), PATTERNS. The others of sshd's options
either restrict what SFTP here never gives (``no-pty``, ``no-port-forwarding``, ``restrict``) or ask
for what does not exist (``command=``); they are refused by name, so that nobody relies on one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import ip_network
from typing import Final

from feedgate.errors import UsageError
from feedgate.stack.access_tags import address_of

__all__ = ["NO_OPTIONS", "KeyOptions", "parse_options", "split_options"]

_TEXT_CHARS_MAX: Final = 1024
_PATTERN: Final = re.compile(r"[0-9a-fA-F.:*?]+")  # of an address; a host name has other letters
_TIME: Final = re.compile(r"(\d{8})(\d{4})?(\d{2})?(Z?)")


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """``sources`` are the patterns of ``from=``; ``expires_at`` is Unix time in seconds."""

    text: str = ""
    sources: tuple[str, ...] = ()
    expires_at: float | None = None

    def admit_address(self, address: str) -> bool:
        """Whether ``from=`` lets that address use the key: a match of ``!pattern`` refuses."""
        if not self.sources:
            return True
        matched = False
        for source in self.sources:
            if _matches(source.removeprefix("!"), address):
                if source.startswith("!"):
                    return False
                matched = True
        return matched


NO_OPTIONS: Final = KeyOptions()


def split_options(line: str, key_types: tuple[str, ...]) -> tuple[str, str]:
    """The options of an authorized_keys line, and the rest, which begins with the key's type."""
    line = line.strip()
    if not line or line.split(None, 1)[0] in key_types:
        return "", line
    quoted = False
    for index, letter in enumerate(line):
        if letter == '"' and line[index - 1 : index] != "\\":
            quoted = not quoted
        elif letter in " \t" and not quoted:
            rest = line[index:].strip()
            if rest and rest.split(None, 1)[0] in key_types:
                return line[:index], rest
            break
    return "", line


@lru_cache(maxsize=4096)  # asked at each login
def parse_options(text: str) -> KeyOptions:
    """Read options.

    Raises:
        UsageError: an option is not one of the two, is given twice, or its value is damaged.
    """
    if len(text) > _TEXT_CHARS_MAX:
        raise UsageError(f"the key's options have more than {_TEXT_CHARS_MAX} characters")
    sources: tuple[str, ...] = ()
    expires_at: float | None = None
    seen = set()
    for name, value in _options(text):
        if name in seen:
            raise UsageError(f"the key's option `{name}` is given twice")
        seen.add(name)
        if name == "from" and value is not None:
            sources = _sources(value)
        elif name == "expiry-time" and value is not None:
            expires_at = _expiry(value)
        else:
            raise UsageError(
                f"the key's option `{name}` is not one that is honoured here",
                hint='`from="…"` and `expiry-time="…"` are; everything but SFTP is refused anyway',
            )
    return KeyOptions(text, sources, expires_at)


def _options(text: str) -> list[tuple[str, str | None]]:
    """Name and value of each option; values are between quotes, ``\\"`` is one of them."""
    found: list[tuple[str, str | None]] = []
    position = 0
    pattern = re.compile(r'([A-Za-z0-9-]+)(?:="((?:[^"\\]|\\.)*)")?(,|$)')
    while position < len(text):
        match = pattern.match(text, position)
        if match is None:
            raise UsageError(f"the key's options cannot be read at `{text[position:][:40]}`")
        value = match[2]
        found.append((match[1].lower(), value.replace('\\"', '"') if value is not None else None))
        position = match.end()
    return found


def _sources(value: str) -> tuple[str, ...]:
    sources = tuple(word.strip() for word in value.split(","))
    for source in sources:
        word = source.removeprefix("!")
        if "/" in word:
            try:
                ip_network(word)
            except ValueError as error:
                raise UsageError(f"`from=`: `{word}` is no network: {error}") from None
        elif not _PATTERN.fullmatch(word):
            raise UsageError(
                f"`from=`: `{word}` is no address",
                hint="host names are not looked up here; write addresses or networks",
            )
    return sources


def _expiry(value: str) -> float:
    """YYYYMMDD[HHMM[SS]][Z]; without Z it is local time, as sshd takes it."""
    match = _TIME.fullmatch(value)
    try:
        if match is None or (match[3] and not match[2]):
            raise ValueError
        digits = f"{match[1]}{match[2] or '0000'}{match[3] or '00'}"
        local = datetime.strptime(digits, "%Y%m%d%H%M%S")
    except ValueError:
        raise UsageError(
            f"`expiry-time=`: `{value}` is no time", hint="YYYYMMDD[HHMM[SS]][Z]"
        ) from None
    return local.replace(tzinfo=UTC).timestamp() if match[4] else local.timestamp()


def _matches(pattern: str, address: str) -> bool:
    found = address_of(address)
    if found is None:
        return False
    if "/" in pattern:
        return found in ip_network(pattern)
    exact = address_of(pattern)
    return found == exact if exact is not None else fnmatchcase(str(found), pattern.lower())
