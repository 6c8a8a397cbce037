"""One station on loopback and one browser for all tests of this folder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from chromium import opened_chromium
from served_station import ACCOUNTS, PASSWORD, SIZE, serve


@dataclass(frozen=True)
class Served:
    """A station that answers at `address`; `cines` has its sources by name."""

    place: object
    address: str
    app: object
    cines: dict[str, str]


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> Iterator[None]:
    """Each of some hundred log-ins would take 0.2 s of processor time, as it must for those who guess passwords."""
    from pwdlib import PasswordHash
    from pwdlib.hashers.argon2 import Argon2Hasher

    from fetalflow.station import accounts

    for made in (accounts.PASSWORDS.hash("guessed"), accounts._NOBODY):
        assert made.startswith("$argon2id$v=19$m=65536,t=3,p=4$"), "a guess of a password takes work"
    quick = PasswordHash([Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "PASSWORDS", quick)
        patch.setattr(accounts, "_NOBODY", quick.hash("nobody"))
        yield


@pytest.fixture(scope="session")
def served(tmp_path_factory) -> Iterator[Served]:
    """The station of `station_workspace`, with the accounts of ACCOUNTS."""
    from station_workspace import make_place, sources

    from fetalflow.station.app import station

    place = make_place(tmp_path_factory.mktemp("station"))
    app = station(place)
    for name, role in ACCOUNTS.items():
        app.state.accounts.make(name, role, PASSWORD)
    running = serve(app)
    yield Served(place, next(running), app, sources(place))
    next(running, None)


@pytest.fixture(scope="session")
def serving() -> Callable:
    """`serve`, for tests that need a station of their own."""
    return serve


@pytest.fixture(scope="session")
def review(tmp_path_factory) -> tuple[object, dict[str, str]]:
    """A place with a cine in every state of the list, and its sources by name. No test changes it."""
    from review_workspace import make_review_workspace

    return make_review_workspace(tmp_path_factory.mktemp("review"))


@pytest.fixture(scope="session")
def answering(served) -> Served:
    """The same station, in which a network answers."""
    from station_workspace import put_network

    put_network(served.place)
    return served


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """It is closed with its file: while it is open, asyncio.run fails in the tests of the same process."""
    with opened_chromium() as found:
        yield found


@pytest.fixture(scope="module")
def log_in_for(served, browser) -> Callable:
    """A context manager with a function that gives a new page of an account (default: anna). Each page has a browser
    context of its own, as on another machine. At the end, errors of their scripts fail the test."""

    @contextmanager
    def pages() -> Iterator[Callable]:
        contexts, errors = [], []

        def page_of(name: str = "anna") -> object:
            context = browser.new_context(viewport=SIZE, base_url=served.address)
            context.set_default_timeout(30_000)
            contexts.append(context)
            token, _ = served.app.state.accounts.log_in(name, PASSWORD)
            context.add_cookies([{"name": "fetalflow_session", "value": token, "url": served.address}])
            page = context.new_page()
            page.on("pageerror", lambda error: errors.append(str(error)))
            return page

        yield page_of
        for context in contexts:
            context.close()
        assert not errors

    return pages


@pytest.fixture
def log_in(log_in_for) -> Iterator[Callable]:
    """`log_in_for`, for one test."""
    with log_in_for() as page_of:
        yield page_of
