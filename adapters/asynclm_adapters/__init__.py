"""Engines that serve `asynclm.v1` on top of hosted model APIs.

May import what `asynclm.server` may; never torch. Registered through the entry-point group `asynclm.engines`.
"""
