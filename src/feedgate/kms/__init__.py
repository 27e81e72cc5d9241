"""KMS keys: data keys, wrapping, rotation.

``envelope.KmsKey`` is the protocol; ``keyring`` the embedded form.
"""
