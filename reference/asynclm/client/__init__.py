"""The Python client: sessions, client-owned tools, events.

May import `asynclm.wire`, `asynclm.cml` and `asynclm.tools`; no torch. Imported by the CLI and by users.
"""
