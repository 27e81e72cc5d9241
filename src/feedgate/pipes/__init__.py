"""From landing to rows: match, parse, load, history in one commit.

Here live the pipes: which of them cover a landing (``match``), how an object's bytes become records
(``decode``, ``csv``, ``ndjson``), what a COPY does to a record (``dialect``, ``types``), and where
rows go: the ``Warehouse`` protocol, whose form is ``DuckDBWarehouse``; ``Loader`` drives them. No
object is opened here: the gateway hands in a reader that was judged as the integration's role.
Before it in the path: ``ledger`` (pending landings) and ``storage`` (decrypted bytes). After it:
``ledger`` (receipts) and the operator's queries.

Invariants: a landing's rows and its history row commit together or not at all; (pipe, landing) is
the history's primary key, so nothing is loaded twice; no supplier's name or value becomes SQL text;
nothing of an object lies in clear on a disk.
"""
