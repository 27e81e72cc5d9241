"""How AWS decides: a request and policies in, a decision with its reasons out.

What lives here: ``policy`` (documents to statements), ``pattern`` and ``match`` (wildcards,
variables, actions, ARNs, principals), ``condition`` (operators), ``evaluate`` (the order of all),
``trace`` (why not), ``arn``. What may not: reading anything, the clock, knowledge of SFTP.
Protocol: none; plain data. Before it: ``access`` fills the request. After it: nothing.
Invariants: what is not understood is refused when parsed; an explicit Deny wins; what a variable
puts in is data, never a wildcard; matching takes time linear in the text.
"""
