"""What a supplier may do with files: paths, uploads, downloads, listings, commit.

What lives here: the home directory of one SFTP session and its handles. What may not: the SFTP
protocol (``sftp``), decisions (``access``), bytes at rest (``storage``, reached only through
``access.guarded``).
Class for the doors: ``home.HomeDirectory``. Path arithmetic: ``mapping``, and nowhere else.
Before it: ``sftp.session``. After it: ``access.guarded``, ``ledger``.
Invariants: nothing is visible before CLOSE; object and landing appear in one commit; memory of an
upload is bounded whatever order its packets come in; a lost connection leaves nothing visible.
"""
