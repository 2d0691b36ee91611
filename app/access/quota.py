"""How much a tenant has asked for. Pure: the clock's reading comes in."""

from __future__ import annotations

from app.access.policy import Quotas


class Bucket:
    """A token bucket: fills at a constant rate up to one second's worth.

    In any interval no more is taken than the rate times its length plus one
    second's worth, and what was charged. What costs more than the bucket holds
    needs a full bucket and leaves a debt, which everything after it has to wait
    for; so a request larger than a second's worth is slowed down, not impossible.

    Args:
        rate_per_s: at least 1.
        now: a monotonic clock, in seconds.
    """

    def __init__(self, rate_per_s: int, now: float) -> None:
        self._rate_per_s = rate_per_s
        self._level = float(rate_per_s)
        self._filled_at = now

    def wait_s(self, cost: int, now: float) -> float:
        """Gives how long until `cost` can be taken; 0 for now."""
        self._fill(now)
        missing = min(cost, self._rate_per_s) - self._level
        return max(0.0, missing / self._rate_per_s)

    def take(self, cost: int) -> None:
        """Takes `cost`, right after `wait_s` gave 0 for it."""
        self._level -= cost

    def charge(self, cost: int, now: float) -> None:
        """Takes `cost` of what was used already; what isn't there is a debt."""
        self._fill(now)
        self._level -= cost

    def _fill(self, now: float) -> None:
        elapsed_s = max(0.0, now - self._filled_at)
        self._filled_at = max(now, self._filled_at)
        self._level = min(float(self._rate_per_s), self._level + elapsed_s * self._rate_per_s)


class Usage:
    """What one tenant uses at present.

    Args:
        quotas: the tenant's.
        now: a monotonic clock, in seconds.
    """

    def __init__(self, quotas: Quotas, now: float) -> None:
        self._concurrent = quotas.concurrent
        self._requests = Bucket(quotas.requests_per_s, now) if quotas.requests_per_s else None
        self._bytes = Bucket(quotas.bytes_per_s, now) if quotas.bytes_per_s else None
        self.running = 0
        """Requests that began and didn't end."""

    def begin(self, size_bytes: int, now: float) -> tuple[str, float] | None:
        """Counts a request in, in all quotas or in none.

        Args:
            size_bytes: of its head and body.
            now: a monotonic clock, in seconds.

        Returns:
            None when it may begin; `end` has to follow. Else the name of the quota that is used
            up and in how many seconds another try makes sense.
        """
        if self._concurrent is not None and self.running >= self._concurrent:
            return "concurrent", 0.0
        costs = (
            ("requests_per_s", self._requests, 1),
            ("bytes_per_s", self._bytes, size_bytes),
        )
        waits = [
            (name, bucket.wait_s(cost, now)) for name, bucket, cost in costs if bucket is not None
        ]
        name, wait_s = max(waits, key=lambda each: each[1], default=("", 0.0))
        if wait_s > 0:
            return name, wait_s
        for _, bucket, cost in costs:
            if bucket is not None:
                bucket.take(cost)
        self.running += 1
        return None

    def charge(self, answer_bytes: int, now: float) -> None:
        """Counts an answer: its size is known only now, so requests after it wait for it."""
        if self._bytes is not None:
            self._bytes.charge(answer_bytes, now)

    def end(self) -> None:
        """Counts a request out; its answer is there, or nobody waits for it."""
        self.running -= 1
