"""Namespace of the generated conformance stubs."""
