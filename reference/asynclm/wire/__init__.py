"""The one conversion between protobuf messages and the values of `asynclm.cml` and `asynclm.session`.

May import the generated stubs. Imported by the server, the client and the conformance suite.
"""
