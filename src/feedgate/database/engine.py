"""Placeholder so that the types resolve; the database package's author replaces it."""


class Transaction:
    """An open transaction."""


class Database:
    """The database."""
