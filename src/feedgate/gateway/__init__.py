"""A running gateway out of a stack: supervisor, workers, loader; start, drain, stop.

What lives here: the data folder, the applied definition and its changes, the composition of stores,
judge and files into services, and the three kinds of process. What may not: a protocol (doors are
above and join through ``lifecycle.Door``), a decision, an SQL dialect.
Before it: ``cli`` starts it. After it: ``files`` for suppliers, ``pipes`` for the loader.
Invariants: one supervisor per data folder; an edited stack with a fault never replaces a good one.
"""
