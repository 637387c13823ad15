"""Tools, CML instructions and messages to prompt token ids.

May import `asynclm.cml`, `asynclm.session` and `asynclm.tools`; no torch. Imported by the engines and the server.
"""
