"""The `asynclm` command.

May import everything. Nothing imports it.
"""
