"""Errors of the API: an HTTP status, headers, and a body of message, type, param and code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

INVALID_REQUEST = "invalid_request_error"

_USUAL: dict[int, tuple[str, str | None, str]] = {
    400: (INVALID_REQUEST, None, "The request is not valid."),
    401: (INVALID_REQUEST, "invalid_api_key", "Incorrect API key provided."),
    403: (INVALID_REQUEST, "unsupported_country_region_territory", "Country, region, or territory not supported."),
    404: (INVALID_REQUEST, None, "Not found."),
    409: (INVALID_REQUEST, None, "The resource was changed by another request."),
    422: (INVALID_REQUEST, None, "The request cannot be processed."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached. Please try again later."),
    500: ("server_error", None, "The server had an error while processing your request. Please retry."),
    503: ("server_error", None, "The engine is currently overloaded, please try again later."),
}
"""Type, code and message by status, where a fault names nothing else."""


class ApiError(Exception):
    """A refusal as the API words it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = INVALID_REQUEST,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body: dict[str, Any] = {"error": {"message": message, "type": type, "param": param, "code": code}}


def bad_request(message: str, param: str | None, code: str | None = None) -> ApiError:
    """A 400 that names the parameter."""
    return ApiError(400, message, param=param, code=code)


def failure(status: int, *, code: str | None = None, message: str | None = None) -> ApiError:
    """An error of a status, worded as usual where nothing is given."""
    type_, usual_code, usual_message = _USUAL.get(status, _USUAL[500 if status >= 500 else 400])
    return ApiError(status, message or usual_message, type=type_, code=code or usual_code)


def retry_headers(seconds: float) -> dict[str, str]:
    """When to come back, in both headers that clients read."""
    return {"retry-after": str(math.ceil(seconds)), "retry-after-ms": str(math.ceil(seconds * 1000))}


def model_not_found(model: str) -> ApiError:
    """There is no such model."""
    said = f"The model `{model[:200]}` does not exist or you do not have access to it."
    return ApiError(404, said, code="model_not_found")


def missing_key() -> ApiError:
    """No key in the request."""
    return ApiError(401, "You didn't provide an API key. Send it in the header Authorization: Bearer YOUR_KEY.")


def wrong_key(key: str) -> ApiError:
    """A key, but not the right one; only its ends are shown."""
    shown = f"{key[:4]}***{key[-4:]}" if len(key) > 8 else "***"
    return ApiError(401, f"Incorrect API key provided: {shown}.", code="invalid_api_key")
