"""The server of the station: its pages, its files, and how a problem is shown."""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as AnyHTTPException

from fetalflow.errors import InputError
from fetalflow.station import pages
from fetalflow.station.access import render, session_of
from fetalflow.station.accounts import Accounts
from fetalflow.station.audit import Audit
from fetalflow.station.catalogue import Catalogue
from fetalflow.station.guard import guard
from fetalflow.station.place import Place

STATIC = Path(__file__).parent / "static"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def station(place: Place, hosts: Iterable[str] = LOOPBACK, is_behind_proxy: bool = False) -> FastAPI:
    """The web application for one workspace. Every file of `pages/` adds its routes. hosts: names for browsers.
    is_behind_proxy: one proxy is in front, which states the address of each browser."""
    app = FastAPI(title="fetalflow station", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.place, app.state.is_behind_proxy = place, is_behind_proxy
    app.state.accounts = Accounts(place.folder / "accounts.db")
    app.state.audit = Audit(place.folder / "audit")
    app.state.catalogue = Catalogue(place)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    for found in iter_modules(pages.__path__):
        app.include_router(import_module(f"{pages.__name__}.{found.name}").router)
    guard(app, list(hosts))

    @app.exception_handler(InputError)
    async def wrong_input(request: Request, error: InputError) -> Response:
        said = await run_in_threadpool(app.state.catalogue.sentence, str(error))
        return await _problem(request, HTTPException(422, said))

    @app.exception_handler(RequestValidationError)
    async def wrong_form(request: Request, error: RequestValidationError) -> Response:
        faults = (f"{'.'.join(str(part) for part in each['loc'][1:])}: {each['msg']}" for each in error.errors())
        return await _problem(request, HTTPException(422, "; ".join(faults)))

    @app.exception_handler(AnyHTTPException)
    async def problem(request: Request, error: AnyHTTPException) -> Response:
        return await _problem(request, error)

    return app


async def _problem(request: Request, error: AnyHTTPException) -> Response:
    """A page for a browser, JSON for a script."""
    if "text/html" not in request.headers.get("accept", ""):
        return await http_exception_handler(request, error)
    if error.status_code == 401:
        return RedirectResponse("/log-in", 303)
    request.state.session = session_of(request)
    return render(request, "problem.html.j2", error.status_code, code=error.status_code, message=error.detail)
