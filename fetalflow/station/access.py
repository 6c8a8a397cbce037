"""Who asks: every page depends on `Signed`, and every page that needs a role on `needs(role)`."""

import hmac
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from fastapi.responses import HTMLResponse

from fetalflow.report.template import page_templates
from fetalflow.station.accounts import Account, Session
from fetalflow.station.place import Place

COOKIE = "fetalflow_session"
SAFE = {"GET", "HEAD"}
TEMPLATES = page_templates("station", "templates")


def session_of(request: Request) -> Session | None:
    """The session of a request, from its cookie."""
    token = request.cookies.get(COOKIE)
    return request.app.state.accounts.session(token) if token else None


async def signed_in(request: Request) -> Account:
    """The account that asks. Raises 401 without a session (a page then leads to the log-in), 403 without CSRF token.

    Requests that change something repeat the session's token in the header `X-CSRF` or in the form's field `csrf`.
    """
    session = session_of(request)
    if session is None:
        raise HTTPException(401, "Log in first.")
    if request.method not in SAFE:
        given = request.headers.get("x-csrf") or (await request.form()).get("csrf") or ""
        if not hmac.compare_digest(str(given).encode(errors="replace"), session.csrf.encode()):
            raise HTTPException(403, "This page is too old. Load it again.")
    request.state.session = session
    return session.account


Signed = Annotated[Account, Depends(signed_in)]


def needs(role: str) -> Callable[[Account], Account]:
    """A dependency that gives the account, and raises 403 where its role does not include `role`."""

    def with_role(account: Signed) -> Account:
        if not account.may(role):
            raise HTTPException(403, f"This needs the role {role}; {account.name} is {account.role}.")
        return account

    return with_role


Adjudicator = Annotated[Account, Depends(needs("adjudicator"))]
Lead = Annotated[Account, Depends(needs("lead"))]


def place_of(request: Request) -> Place:
    """What the station serves."""
    return request.app.state.place


Here = Annotated[Place, Depends(place_of)]


def render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page from a template of `templates/`, with `account`, `csrf`, `place` and `path` for base.html.j2."""
    session = getattr(request.state, "session", None)
    shared = {
        "account": session.account if session else None,
        "csrf": session.csrf if session else "",
        "place": request.app.state.place,
        "path": request.url.path,
    }
    return HTMLResponse(TEMPLATES.get_template(template).render(shared | values), status)
