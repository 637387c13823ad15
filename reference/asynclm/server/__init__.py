"""The gRPC server: a thin asyncio shell around the engine loop.

May import everything below it. Imported by the CLI.
"""
