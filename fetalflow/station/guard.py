"""What every request must fulfil before a page sees it, and what every answer carries."""

from urllib.parse import urlsplit

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from fetalflow.station.rates import Rates

LONGEST_BODY = 8 * 2**20  # bytes of one request: a mask of 4000 x 4000 px as run lengths is smaller
# Scripts and styles come from files of the station alone: no page can run what a name or a label holds.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def guard(app: FastAPI, hosts: list[str]) -> None:
    """Add the checks to an application. hosts: the names under which browsers may reach it.

    A page of another site cannot reach the station by a name that leads to this machine, since the host must be one of
    `hosts`, and it cannot send a form, since the origin must be the station.
    """
    app.state.rates = Rates()

    @app.middleware("http")
    async def checked(request: Request, call_next) -> Response:
        try:
            app.state.rates.request(address_of(request))
            _check_origin(request)
            _check_length(request)
        except HTTPException as refused:
            response = JSONResponse({"detail": refused.detail}, refused.status_code, refused.headers)
        else:
            response = await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)


def address_of(request: Request) -> str:
    """The address that asks; behind a proxy the last one of `X-Forwarded-For`, which the proxy wrote. A client may
    have written those before it."""
    stated = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    if request.app.state.is_behind_proxy and stated:
        return stated[:100]
    return request.client.host if request.client else ""


def _check_origin(request: Request) -> None:
    origin = request.headers.get("origin")
    if request.method not in ("GET", "HEAD") and origin and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, "This request comes from another site.")


def _check_length(request: Request) -> None:
    """Chunked bodies state no length, and no page of the station sends them."""
    stated = request.headers.get("content-length", "")
    if "transfer-encoding" in request.headers or (stated and not stated.isdigit()) or int(stated or 0) > LONGEST_BODY:
        raise HTTPException(413, f"A request may have {LONGEST_BODY // 2**20} MB and must state its length.")
