"""The one SQLite file of a gateway: engine, transactions, migrations.

Holds ``engine.Database`` (one writer at a time, group commit, short reads) and ``Transaction``,
which stores accept so that what they write together commits together. No table is defined here:
each store brings its ``MIGRATIONS``. Everything durable passes here last: bytes, commit, then OK.
Invariants: synchronous=FULL on every connection; a commit that returned is on disk.
"""

from feedgate.database.engine import Database, Transaction

__all__ = ["Database", "Transaction"]
