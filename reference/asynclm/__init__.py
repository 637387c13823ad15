"""AsyncLM: asynchronous, interruptible LLM function calling.

This package holds the reference implementation. It re-exports nothing: import from the subpackages.
"""
