"""The definition: template.jsonnet and warehouse.sql in, typed resources out.

May not: open a file, ask the clock; reading is an argument. ``gateway`` and ``cli`` feed it.
Invariants: every fault is found with its place; what is not understood is refused.
"""
