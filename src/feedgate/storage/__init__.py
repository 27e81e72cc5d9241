"""Objects: the Bucket protocol and its embedded form.

Only ``access`` and ``gateway`` import this: nothing reads or writes an object unjudged.
"""
