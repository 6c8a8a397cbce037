"""Log in, by password or by a link of the operator that works once; and log out."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from fetalflow.station.access import COOKIE, Signed, render
from fetalflow.station.accounts import LONGEST_PASSWORD
from fetalflow.station.guard import address_of

router = APIRouter()
Text = Annotated[str, Form(max_length=LONGEST_PASSWORD)]


@router.get("/log-in")
def log_in_page(request: Request) -> Response:
    """The form."""
    return render(request, "log_in.html.j2", message="")


@router.post("/log-in")
def log_in(request: Request, name: Text, password: Text) -> Response:
    """Begin a session, or show the form again."""
    state, address = request.app.state, address_of(request)
    with state.rates.one_log_in:
        state.rates.check_log_in(name, address)
        found = state.accounts.log_in(name, password)
        if found is None:
            state.rates.wrong_log_in(name, address)
    if found is None:
        state.audit.write(name, "log-in refused", address)
        return render(request, "log_in.html.j2", 401, message="The name or the password is wrong.")
    state.audit.write(name, "log in", address)
    return _begun(request, found[0])


@router.get("/link")
def link(request: Request, once: str) -> Response:
    """Begin a session by the secret of a link. A link that was used leads to the form."""
    state = request.app.state
    state.rates.check_log_in("", address_of(request))
    found = state.accounts.follow(once)
    if found is None:
        state.rates.wrong_log_in("", address_of(request))
        return render(request, "log_in.html.j2", 401, message="This link was used before, or it is too old.")
    state.audit.write(found[1].account.name, "log in by link", address_of(request))
    return _begun(request, found[0])


@router.post("/log-out")
def log_out(request: Request, account: Signed) -> Response:
    """End the session."""
    request.app.state.accounts.log_out(request.cookies[COOKIE])
    request.app.state.audit.write(account.name, "log out")
    response = RedirectResponse("/log-in", 303)
    response.delete_cookie(COOKIE)
    return response


def _begun(request: Request, token: str) -> Response:
    response = RedirectResponse("/", 303)
    response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return response
