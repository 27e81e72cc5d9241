"""Users and their SSH keys: the template's, and what was changed live.

What lives here: user rows, key rows, live changes and their drift from the template. What may not:
authentication (``sftp``), policies' meaning (``iam``, ``access``), path mapping (``files``).
Protocol: ``users.Users``, the read side. Form: ``store.UserStore`` (SQLite).
Before it: ``gateway`` applies a template, ``cli`` changes users. After it: ``database``.
Invariants: a live removal or disabling outlives restarts and unchanged templates; every change
raises the generation in its own transaction.
"""
