"""KMS keys: data keys, wrapping, rotation.

``envelope.KmsKey`` is the protocol; ``keyring`` the embedded form. What a data key then encrypts
is no business of this package. Before it in the data path: an upload that needs a data key, or a
reader that brings a wrapped one; after it: ``storage``. Invariants: a KMS key's material never
leaves this package; whoever unwraps must bring the encryption context that was bound at wrapping.
"""
