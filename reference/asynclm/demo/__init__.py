"""The demonstration behind `asynclm demo`.

May import everything but the CLI. Imported by the CLI.
"""
