"""Tool declarations from typed functions, and the executor that runs them.

May import `asynclm.cml`. Imported by the engine loop's host, the server and the client.
"""
