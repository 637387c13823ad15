"""The sans-IO session machine: transition tables, interrupt queue, traps, call ledger.

May import `asynclm.cml`. Imported by the engine loop; knows no IO, no clock, no event loop.
"""
