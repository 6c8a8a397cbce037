"""The largest request that the service takes, and how many at once."""

from dataclasses import dataclass

MEGABYTE = 10**6
TOGETHER = 4  # of the largest requests at once


@dataclass(frozen=True)
class Limits:
    """max_bytes: of one request, with all its files. max_files: of one request. max_pixels: of one frame. max_frames:
    of one cine. max_cine_pixels: of all its frames together; each is one byte on the disk while it is answered.
    seconds: of the computation of one answer. upload_seconds: until a request has arrived whole. stall_seconds: without
    a byte of it; a connection that has died must not hold a place for long. workers: processes
    that answer. queue: requests that wait for one, more are refused with 503. streams: open streams at the same time,
    each has a process."""

    max_bytes: int = 500 * MEGABYTE
    max_files: int = 100
    max_pixels: int = 8_000_000
    max_frames: int = 5_000
    max_cine_pixels: int = 4_000_000_000
    seconds: float = 120
    upload_seconds: float = 120
    stall_seconds: float = 20
    workers: int = 2
    queue: int = 32
    streams: int = 2

    @property
    def max_bytes_together(self) -> int:
        """Of all requests that are not yet answered: they lie on the disk, or in memory where that is the disk."""
        return TOGETHER * self.max_bytes

    @property
    def of_extract(self) -> dict[str, int]:
        """The limits that the reader of cines has, by their names in the block `extract`."""
        names = ("max_bytes", "max_frames", "max_pixels", "max_cine_pixels")
        return {name: getattr(self, name) for name in names}
