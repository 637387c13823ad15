"""Engines: the seam (`base`), the loop that drives session machines, constraints, and the scripted engine.

May import `asynclm.prompt` and below; only `asynclm.engine.torch` imports torch. Imported by the server.
"""
