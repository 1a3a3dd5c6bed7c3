"""What the tests of a command store need: engines to run against, comby's databases, and the conformance suite.

Nothing is imported here, so that ``commandstore.testing.comby`` costs no more than the standard library and an author
of a backend takes only the module that their tests use.
"""
