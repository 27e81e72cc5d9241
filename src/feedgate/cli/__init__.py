"""Everything for a person: commands, output, exit codes.

What lives here: the table of commands, options, rendering for people and as JSON. What may not: a
decision, a loop, a protocol; commands call ``gateway`` and the packages below it and print.
Invariants: ``--help`` imports no library but click; data goes to stdout, all else to stderr.
"""
