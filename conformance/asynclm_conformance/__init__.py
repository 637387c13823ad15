"""The conformance suite for engines that claim to speak `asynclm.v1`.

May import `asynclm.wire` and `asynclm.cml`; never `asynclm.session`, never torch. Of the project only the tools import
it, for its parser of the specification.
"""
