"""Whether a request that failed is tried again, and when."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping

import openai

BACKOFF_MOST_S = 8.0
"""The longest wait where the endpoint names none."""

RETRY_AFTER_MOST_S = 60.0
"""The longest wait that an endpoint can ask for; who asks for more is not waited for."""

_SAID = re.compile(r"try again in (\d+(?:\.\d+)?) ?(ms|s)\b", re.IGNORECASE)
"""How a fault within a stream, which has no headers, says when."""


class BrokenOffError(Exception):
    """The stream ended without saying that the answer did."""


Fault = openai.OpenAIError | BrokenOffError | TimeoutError | ValueError
"""What can go wrong: the endpoint's own errors, a stream that is cut or falls silent, and one that is no JSON."""

FAULTS = (openai.OpenAIError, BrokenOffError, TimeoutError, ValueError)


def passes(error: Fault) -> bool:
    """Whether it can go better the next time; a fault within a stream has no status of its own."""
    if not isinstance(error, openai.OpenAIError):
        return True
    if _code(error) in ("insufficient_quota", "context_length_exceeded", "content_filter"):
        return False
    passing = (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError, openai.ConflictError)
    return isinstance(error, passing) or type(error) is openai.APIError


def wait_s(error: Fault, attempt: int, *, backoff_s: float, now_s: float) -> float | None:
    """Seconds until the next try, or None if the endpoint asks for more than is waited.

    Args:
        error: what went wrong.
        attempt: tries that failed before this one.
        backoff_s: the first wait where the endpoint names none; it doubles.
        now_s: the time, in seconds since the epoch.
    """
    asked = _asked_s(error, now_s)
    if asked is None:
        return min(BACKOFF_MOST_S, backoff_s * 2.0**attempt)
    return asked if asked <= RETRY_AFTER_MOST_S else None


def told(error: Fault) -> str:
    """What a client is told of a fault of the endpoint."""
    if isinstance(error, TimeoutError):
        return "the endpoint was silent for too long"
    if isinstance(error, BrokenOffError):
        return "the endpoint broke off its answer"
    if isinstance(error, ValueError):
        return "the endpoint's answer could not be read"
    if isinstance(error, openai.APIStatusError):
        return f"the endpoint answered {error.status_code}: {error.message[:300]}"
    if type(error) is openai.APIError:
        return f"the endpoint broke off with a fault: {error.message[:300]}"
    return f"the endpoint cannot be reached: {str(error)[:300]}"


def _asked_s(error: Fault, now_s: float) -> float | None:
    """The wait that the endpoint asks for, in its headers or in what it says."""
    headers: Mapping[str, str] = error.response.headers if isinstance(error, openai.APIStatusError) else {}
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit_s)
        except (KeyError, ValueError):
            continue
    if "retry-after" in headers:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(headers["retry-after"]).timestamp() - now_s)
        except ValueError:
            pass
    said = _SAID.search(error.message) if isinstance(error, openai.APIError) else None
    if said is None:
        return None
    return float(said[1]) * (0.001 if said[2].lower() == "ms" else 1.0)


def _code(error: openai.OpenAIError) -> str | None:
    return error.code if isinstance(error, openai.APIError) else None
