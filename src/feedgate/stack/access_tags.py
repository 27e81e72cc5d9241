"""Tags of a server or a user that say who may connect, from where and until when.

Tags are where a template says what AWS has no property for. A tag's value may hold letters, digits,
spaces and ``_ . : / = + - @`` (AWS General Reference, tagging), so networks are separated by
spaces: ``198.51.100.0/24 2001:db8::/48``. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

__all__ = [
    "ALLOWED_TAG",
    "ANY_ADDRESS",
    "DENIED_TAG",
    "EXPIRES_TAG",
    "AddressRules",
    "Network",
    "access_tag_faults",
    "address_of",
    "expires_at",
    "is_within",
    "parse_networks",
    "rules_of",
]

ALLOWED_TAG: Final = "feedgate:allowedCidrs"
DENIED_TAG: Final = "feedgate:deniedCidrs"
EXPIRES_TAG: Final = "feedgate:expiresAt"  # a user's

Network = IPv4Network | IPv6Network


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks in CIDR notation, or single addresses, between spaces.

    Raises:
        ValueError: with the word that is none, or a network with host bits set.
    """
    found = []
    for word in text.split():
        try:
            found.append(ip_network(word))
        except ValueError:
            try:
                loose = ip_network(word, strict=False)
            except ValueError:
                raise ValueError(f"`{word}` is no network in CIDR notation") from None
            raise ValueError(f"`{word}` has host bits set: `{loose}`?") from None
    return tuple(found)


def address_of(text: str) -> IPv4Address | IPv6Address | None:
    """An address without zone; one of IPv4 in IPv6 is of IPv4. None where it is none."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@dataclass(frozen=True, slots=True)
class AddressRules:
    """``denied`` wins; ``allowed`` None allows every other address, an empty one none."""

    allowed: tuple[Network, ...] | None = None
    denied: tuple[Network, ...] = ()

    def admit(self, address: str) -> bool:
        """Whether that address may connect; what is no address may only where all may."""
        if self.allowed is None and not self.denied:
            return True
        found = address_of(address)
        if found is None:
            return False
        if any(found in network for network in self.denied):
            return False
        return self.allowed is None or any(found in network for network in self.allowed)


ANY_ADDRESS: Final = AddressRules()


def rules_of(tags: Mapping[str, str]) -> AddressRules:
    """The rules that a server's or a user's tags state. Raises ``ValueError``."""
    if ALLOWED_TAG not in tags and DENIED_TAG not in tags:
        return ANY_ADDRESS
    return _rules(tags.get(ALLOWED_TAG), tags.get(DENIED_TAG, ""))


@lru_cache(maxsize=1024)  # asked at each login
def _rules(allowed: str | None, denied: str) -> AddressRules:
    return AddressRules(
        None if allowed is None else parse_networks(allowed), parse_networks(denied)
    )


def is_within(address: str, networks: Sequence[Network]) -> bool:
    """Whether the address lies in one of the networks."""
    found = address_of(address)
    return found is not None and any(found in network for network in networks)


def expires_at(tags: Mapping[str, str]) -> float | None:
    """When a user's access ends, in Unix time; None where no tag says so.

    An ISO 8601 instant with its zone; a day alone ends access as it begins, in UTC, as
    ``chage -E`` and OpenSSH's ``expiry-time`` do.

    Raises:
        ValueError: it is neither.
    """
    text = tags.get(EXPIRES_TAG)
    return None if text is None else _instant(text)


@lru_cache(maxsize=1024)
def _instant(text: str) -> float:
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"`{text}` is no ISO 8601 instant") from None
    if found.tzinfo is None:
        if found.time() != datetime.min.time() or "T" in text.strip() or ":" in text:
            raise ValueError(f"`{text}` has no time zone: write `{text.strip()}Z`")
        found = found.replace(tzinfo=UTC)
    return found.timestamp()


def access_tag_faults(tags: Mapping[str, str], *, of_user: bool) -> Iterator[str]:
    """What is wrong with the tags of this module; those that say nothing here are no fault."""
    for tag in (ALLOWED_TAG, DENIED_TAG):
        try:
            parse_networks(tags.get(tag, ""))
        except ValueError as error:
            yield f"tag `{tag}`: {error}"
    if EXPIRES_TAG in tags and not of_user:
        yield f"tag `{EXPIRES_TAG}` is for users"
        return
    try:
        expires_at(tags)
    except ValueError as error:
        yield f"tag `{EXPIRES_TAG}`: {error}"
