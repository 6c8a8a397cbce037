"""What every request must fulfil before its body is read: a valid token, a free place, and a body within the limits."""

import asyncio
import math
from contextlib import suppress
from typing import Any

from fastapi import HTTPException
from starlette.responses import JSONResponse

from fetalflow.service.desk import Desk
from fetalflow.service.tokens import Tokens
from fetalflow.station.rates import Rates

OPEN = {"/health", "/ready"}  # they say nothing that needs a token
HEADERS = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
NO_TOKEN = "This needs a token: send the header `Authorization: Bearer TOKEN`."
LINGER_S = 2.0  # at most, until a connection is ended whose client is still sending a body that was refused
POLICY_VIOLATION = 1008  # of the WebSocket protocol


class Gate:
    """ASGI middleware. A body is counted while it arrives, so a chunked one has the same limit."""

    def __init__(self, app: Any, desk: Desk, tokens: Tokens) -> None:
        self.app, self.desk, self.tokens, self.rates = app, desk, tokens, Rates()

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if refused := self._refused(scope, headers):
            await self.refuse(scope, receive, send, refused)
        elif scope["type"] == "http" and scope["method"] == "POST":
            await self._admit(scope, receive, send)
        else:
            await self.app(scope, receive, _with_headers(send))

    def _refused(self, scope: dict, headers: dict[str, str]) -> HTTPException | None:
        if scope["path"] in OPEN:
            return None
        if not self.tokens.admits(headers.get("authorization", "")):
            return self._wrong_token((scope.get("client") or ("",))[0])
        stated = headers.get("content-length", "")
        if stated.isdigit() and int(stated) > self.desk.limits.max_bytes:
            return self._too_large()
        return None

    def _wrong_token(self, address: str) -> HTTPException:
        """Many wrong tokens of one address are slowed down; a valid one from the same address is still admitted."""
        try:
            self.rates.check_log_in("", address)
        except HTTPException:
            return HTTPException(429, "Too many wrong tokens. Wait 15 minutes.", {"Retry-After": "900"})
        self.rates.wrong_log_in(address, address)
        return HTTPException(401, NO_TOKEN, {"WWW-Authenticate": "Bearer"})

    async def _admit(self, scope: dict, receive: Any, send: Any) -> None:
        desk = self.desk
        if desk.is_full:
            await self.refuse(scope, receive, send, self._full("All places are taken."))
            return
        desk.admitted += 1
        desk.measures.waiting.set(desk.admitted)
        try:
            await _Body(self, receive, send).handle(scope)
        finally:
            desk.admitted -= 1
            desk.measures.waiting.set(desk.admitted)

    async def refuse(self, scope: dict, receive: Any, send: Any, refused: HTTPException) -> None:
        self.desk.measures.refused.labels(refused.status_code).inc()
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": refused.detail[:120]})
            return
        headers = dict(refused.headers or {}) | {"Connection": "close"}  # the rest of the body is not kept
        answer = JSONResponse({"detail": refused.detail}, refused.status_code, headers)
        stalled = refused.status_code == 408
        await answer(scope, receive, _with_headers(send if stalled else _lingering(receive, send)))

    def _full(self, why: str) -> HTTPException:
        wait = str(self.desk.retry_after)
        return HTTPException(503, f"{why} Send it again in {wait} s.", {"Retry-After": wait})

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"A request may have {self.desk.limits.max_bytes / 10**6:g} MB in all.")


class _Body:
    """One request whose body is counted and timed. Once it is refused, what the application still says is dropped."""

    def __init__(self, gate: Gate, receive: Any, send: Any) -> None:
        self.gate, self.receive, self.send = gate, receive, send
        self.bytes, self.whole, self.refused = 0, False, None
        self.ends = asyncio.get_running_loop().time() + gate.desk.limits.upload_seconds

    async def handle(self, scope: dict) -> None:
        try:
            await self.gate.app(scope, self._counted, _with_headers(self._unless_refused))
        finally:
            self.gate.desk.arriving -= self.bytes
        if self.refused:
            await self.gate.refuse(scope, self.receive, self.send, self.refused)

    async def _counted(self) -> dict:
        if self.refused:
            return {"type": "http.disconnect"}
        if self.whole:  # now it can only wait for the end of the connection
            return await self.receive()
        desk, limits = self.gate.desk, self.gate.desk.limits
        stalls = asyncio.get_running_loop().time() + limits.stall_seconds
        try:
            async with asyncio.timeout_at(min(self.ends, stalls)):
                message = await self.receive()
        except TimeoutError:
            why = f"No byte of it came for {math.ceil(limits.stall_seconds)} s."
            if stalls > self.ends:
                why = f"It did not arrive within {math.ceil(limits.upload_seconds)} s."
            self.refused = HTTPException(408, f"The request came too slowly. {why}")
            return {"type": "http.disconnect"}
        size = len(message.get("body", b""))
        self.bytes += size
        desk.arriving += size
        self.whole = not message.get("more_body", False)
        if self.bytes > limits.max_bytes:
            self.refused = self.gate._too_large()
        elif desk.arriving > limits.max_bytes_together:
            self.refused = self.gate._full("There is no room for the files of this request now.")
        return {"type": "http.disconnect"} if self.refused else message

    async def _unless_refused(self, message: dict) -> None:
        if not self.refused:
            await self.send(message)


def _lingering(receive: Any, send: Any) -> Any:
    """The whole answer, and then what still comes is thrown away: a connection that is ended while its client sends is
    reset, and the client may never read why."""

    async def sending(message: dict) -> None:
        if message["type"] != "http.response.body" or message.get("more_body"):
            await send(message)
            return
        await send(message | {"more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while (await receive()).get("more_body"):
                    pass
        await send({"type": "http.response.body", "body": b""})

    return sending


def _with_headers(send: Any) -> Any:
    async def sending(message: dict) -> None:
        if message["type"] == "http.response.start":
            message = message | {"headers": [*message["headers"], *HEADERS]}
        await send(message)

    return sending
