"""The server of uvicorn, which also ends connections that do not send a request."""

import time
from typing import Any
from weakref import WeakKeyDictionary

import uvicorn

HEAD_S = 30  # until the head of a request must be whole. It needs no token, so anybody could hold all connections
EVERY = 10  # ticks of uvicorn, of 0.1 s, between two looks


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._silent: WeakKeyDictionary[Any, tuple[Any, float]] = WeakKeyDictionary()

    async def on_tick(self, counter: int) -> bool:
        if counter % EVERY == 0:
            self.end_silent(time.monotonic())
        return await super().on_tick(counter)

    def end_silent(self, now: float) -> None:
        """End the connections that have had no new request for HEAD_S. now: s, of a clock that never goes back.

        A request that is being answered counts as new; uvicorn itself ends a connection that is quiet between two.
        """
        for connection in list(self.server_state.connections):
            if not hasattr(connection, "cycle"):  # a stream
                continue
            last = connection.cycle  # the request that came last
            known, since = self._silent.get(connection, (last, now))
            if known is not last or not (last is None or last.response_complete):
                since = now
            self._silent[connection] = last, since
            if now - since > HEAD_S:
                connection.transport.close()
