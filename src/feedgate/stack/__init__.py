"""The definition: template.jsonnet and warehouse.sql in, typed resources out.

What lives here, in the order of reading: ``parse`` and ``template`` (text to a tree with places),
``parameters``, ``intrinsics`` (functions to values), ``identities`` (ids and ARNs), ``properties``
(the table of what each property does here), ``node``, ``buckets``, ``roles``, ``transfer`` and
``build`` (values to ``resources``), ``check``; ``warehouse_sql`` and ``warehouse`` for the script.
May not: open a file, ask the clock; reading is an argument.
Before it: ``gateway.rendering``. After it: everything that runs, judges or explains a stack.
Invariants: every fault is found with its place; what is not understood is refused.
"""
