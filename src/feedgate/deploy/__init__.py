"""What concerns AWS itself: ``lint`` asks cfn-lint what CloudFormation would say.

May not: run anything locally. Before it: ``stack.template``. After it: ``cli``.
Invariant: cfn-lint is optional and is imported only when asked.
"""
