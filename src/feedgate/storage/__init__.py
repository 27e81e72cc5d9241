"""Objects: the Bucket protocol and its embedded form.

``bucket`` is the protocol; ``embedded`` the form on this machine: ``index`` (SQLite) says where the
bytes are, ``parts`` how they are encrypted, ``upload`` and ``reader`` take them in and out,
``garbage`` removes what nothing refers to. No policy is known here, and only ``access`` and
``gateway`` import this: nothing reads or writes an object unjudged. Before it in the data path:
``files``, which assembles requests; after it: the commit that makes object and landing visible.
Invariants: nothing is visible before ``publish``; what is published is durable; the disk
holds no plaintext.
"""
