"""Placeholder so that the types resolve; the iam package's author replaces it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """A parsed policy document."""
