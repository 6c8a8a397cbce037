"""The audit line of a look that takes many requests: one for each session, cine and kind of look."""

from collections import OrderedDict

from fastapi import Request

from fetalflow.station.access import COOKIE
from fetalflow.station.accounts import Account

MOST = 20_000  # looks that are remembered; one that was forgotten gets a second line, which does no harm


def note_look(request: Request, account: Account, action: str, source: str) -> None:
    """Write the audit line of a look, unless this session looked in this way before."""
    state = request.app.state
    if not hasattr(state, "looked"):
        state.looked = OrderedDict()
    key = (request.cookies.get(COOKIE, ""), action, source)
    if key in state.looked:
        return
    state.audit.write(account.name, action, source)
    state.looked[key] = True
    while len(state.looked) > MOST:
        state.looked.popitem(last=False)
