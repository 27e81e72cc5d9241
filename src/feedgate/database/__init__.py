"""The one SQLite file of a gateway: engine, transactions, migrations.

``Database`` writes through one thread with group commit; ``Transaction`` is what stores accept.
Invariants: synchronous=FULL on every connection; a commit that returned is on disk.
"""

from feedgate.database.engine import Database, Transaction

__all__ = ["Database", "Transaction"]
