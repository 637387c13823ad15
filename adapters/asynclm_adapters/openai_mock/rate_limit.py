"""Rate limits: requests and tokens per minute, refilled continuously."""

from __future__ import annotations

from dataclasses import dataclass

from asynclm_adapters.openai_mock.clock import Clock
from asynclm_adapters.openai_mock.errors import ApiError, retry_headers

_MINUTE_S = 60.0


@dataclass
class _Bucket:
    """What is left of one allowance.

    Attributes:
        name: `requests` or `tokens`, as headers and errors say.
        per_minute: the allowance.
        left: what is left of it, at `at_s`.
    """

    name: str
    per_minute: int
    left: float
    at_s: float

    def refill(self, now_s: float) -> None:
        gained = (now_s - self.at_s) * self.per_minute / _MINUTE_S
        self.left = min(self.per_minute, self.left + gained)
        self.at_s = now_s

    def wait_s(self, amount: float) -> float:
        """Seconds until that much is there."""
        return max(0.0, (amount - self.left) * _MINUTE_S / self.per_minute)

    def headers(self) -> dict[str, str]:
        reset_s = self.wait_s(self.per_minute)
        return {
            f"x-ratelimit-limit-{self.name}": str(self.per_minute),
            f"x-ratelimit-remaining-{self.name}": str(int(self.left)),
            f"x-ratelimit-reset-{self.name}": f"{reset_s:.3f}s",
        }


class RateLimiter:
    """Counts requests against their allowances; without allowances everything passes."""

    def __init__(self, clock: Clock, *, requests_per_minute: int | None, tokens_per_minute: int | None) -> None:
        self._clock = clock
        given = (("requests", requests_per_minute), ("tokens", tokens_per_minute))
        self._allowances = {name: number for name, number in given if number is not None}
        self._buckets: dict[str, _Bucket] = {}
        self.reset()

    def reset(self) -> None:
        """Fills every allowance."""
        self._buckets = {name: _Bucket(name, n, float(n), 0.0) for name, n in self._allowances.items()}

    def take(self, tokens: int) -> dict[str, str]:
        """Takes one request of so many tokens; returns the headers that say what is left.

        Raises:
            ApiError: 429, an allowance does not cover it.
        """
        now = self._clock.now()
        wanted = [(bucket, 1 if bucket.name == "requests" else tokens) for bucket in self._buckets.values()]
        for bucket, amount in wanted:
            bucket.refill(now)
            if bucket.left < amount:
                raise _exceeded(bucket, amount, self._headers())
        for bucket, amount in wanted:
            bucket.left -= amount
        return self._headers()

    def _headers(self) -> dict[str, str]:
        return {name: value for bucket in self._buckets.values() for name, value in bucket.headers().items()}


def _exceeded(bucket: _Bucket, amount: int, headers: dict[str, str]) -> ApiError:
    wait_s = bucket.wait_s(amount)
    said = (
        f"Rate limit reached on {bucket.name} per min: Limit {bucket.per_minute}, Remaining {int(bucket.left)}, "
        f"Requested {amount}. Please try again in {wait_s:.3f}s."
    )
    code = "rate_limit_exceeded"
    return ApiError(429, said, type=bucket.name, code=code, headers=headers | retry_headers(wait_s))
