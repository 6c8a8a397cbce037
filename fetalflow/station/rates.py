"""How often one address or one name may ask: a guess of passwords is slow, and no browser can use up the server."""

from threading import Lock

from fastapi import HTTPException
from limits import RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

LOG_INS = RateLimitItemPerMinute(10, 15)  # wrong log-ins of one name or one address in 15 minutes
REQUESTS = RateLimitItemPerSecond(600, 5)  # of one address; a player that loads 300 frames stays below


class Rates:
    """The counts of one server, in its memory."""

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self.one_log_in = Lock()  # from check_log_in to wrong_log_in: else many guesses at once pass the check

    def request(self, address: str) -> None:
        """Count a request. Raises 429 if there were too many."""
        if not self._limiter.hit(REQUESTS, "request", address):
            raise HTTPException(429, "Too many requests at once. Wait some seconds.", {"Retry-After": "5"})

    def check_log_in(self, name: str, address: str) -> None:
        """Raises 429 if this name or this address failed too often."""
        if not all(self._limiter.test(LOG_INS, *of) for of in (("name", name), ("address", address))):
            raise HTTPException(429, "Too many wrong log-ins. Wait 15 minutes.", {"Retry-After": "900"})

    def wrong_log_in(self, name: str, address: str) -> None:
        """Count a log-in that failed."""
        self._limiter.hit(LOG_INS, "name", name)
        self._limiter.hit(LOG_INS, "address", address)
