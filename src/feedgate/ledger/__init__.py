"""Landings and receipts: who sent what, and what it became.

What lives here: the tables of landings and loads, ULIDs, queries for receipts and for the loader.
What may not: the bytes of objects (``storage``), which pipe covers what (``pipes``).
Types: ``receipts``. Form: ``store.Ledger`` (SQLite). Protocol: ``sealing.Sealer``.
Before it: ``files.commit`` records a landing in the transaction that publishes the object. After
it: ``pipes.loader`` takes what is pending, and ``cli`` shows receipts.
Invariants: a landing is never changed, only followed by its loads; what was offered is never
pending again; the text of a row error, which may quote the file, is never stored in clear.
"""
