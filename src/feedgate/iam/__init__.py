"""How AWS decides: a request and policies in, a decision with its reasons out.

May not: read anything, know the clock. Before it: ``access`` fills the request; after it nothing.
Invariants: what is not understood is refused when parsed; an explicit Deny wins.
"""
