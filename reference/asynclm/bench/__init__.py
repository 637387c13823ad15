"""Benchmarks behind `asynclm bench NAME`.

May import everything but the CLI. Imported by the CLI.
"""
