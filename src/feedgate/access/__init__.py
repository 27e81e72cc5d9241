"""The judge: principal + operation → S3 and KMS actions → decision → audit.

What lives here: ``principals`` (who asks, and how a role is assumed), ``actions`` (the one table
of operations), ``contexts`` (what a request says of itself), ``authorize.Judge``, ``guarded`` (a
bucket behind the judge), ``explain`` with its ``fixes``, ``review`` (what policies ask in vain).
What may not: paths (``files.mapping``), storing, packets.
Protocol: none of its own; ``guarded.GuardedBucket`` has the methods of ``storage.bucket.Bucket``.
Before it: ``files``, ``pipes`` and commands, always as a principal. After it: ``storage``, ``kms``.
Invariants: no object is read, written or listed unjudged; each judgement is one audit event; a
policy that the gateway changes counts from the next request on.
"""
