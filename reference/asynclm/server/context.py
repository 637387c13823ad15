"""The type of a servicer's context; the stubs make it generic, the library does not."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
"""What a servicer gets beside its request."""
