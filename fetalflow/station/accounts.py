"""The accounts of a station and their sessions, in one SQLite file that only the operator's user can read."""

import hashlib
import os
import re
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pwdlib import PasswordHash

from fetalflow.errors import InputError

ROLES = {
    "annotator": "looks at cines and labels them",
    "adjudicator": "also decides where two annotators disagree",
    "lead": "also decides on quarantine, sets up studies and sees the audit lines",
}
LINK = timedelta(minutes=15)  # a link that logs in once ends after this time
IDLE, LONGEST = timedelta(hours=2), timedelta(hours=12)  # a session ends after this time without a request, or in all
SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 200  # characters
SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, role TEXT NOT NULL, password TEXT NOT NULL,
  made TEXT NOT NULL, closed TEXT);
CREATE TABLE IF NOT EXISTS sessions (token TEXT PRIMARY KEY, account TEXT NOT NULL, csrf TEXT NOT NULL,
  begun TEXT NOT NULL, seen TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS links (token TEXT PRIMARY KEY, account TEXT NOT NULL, made TEXT NOT NULL);
"""
PASSWORDS = PasswordHash.recommended()


@dataclass(frozen=True)
class Account:
    """A person who may log in. role: a key of ROLES."""

    name: str
    role: str

    def may(self, role: str) -> bool:
        """Whether the account's role includes another role: each role includes those before it."""
        order = list(ROLES)
        return order.index(self.role) >= order.index(role)


@dataclass(frozen=True)
class Session:
    """A log-in that has not ended. csrf: the token that every changing request must repeat."""

    account: Account
    csrf: str


class Accounts:
    """Accounts and sessions in the file `path`, which is made with mode 0600."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        os.chmod(path, 0o600)
        with self._connected() as database:
            database.executescript(SCHEMA)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=30)) as database, database:
            yield database

    def make(self, name: str, role: str, password: str) -> Account:
        """Make an account. Raises InputError if the name is known or odd, the role unknown, or the password short."""
        if not re.fullmatch(r"[\w.@-]{1,64}", name):
            raise InputError(f"an account's name has 1 to 64 letters, digits, '.', '-', '_' or '@', not {name!r}.")
        if role not in ROLES:
            raise InputError(f"the role {role!r} is unknown. Choose one of: {', '.join(ROLES)}.")
        _check_password(password)
        with self._connected() as database:
            values = (name, role, PASSWORDS.hash(password), _now().isoformat())
            try:
                database.execute("INSERT INTO accounts (name, role, password, made) VALUES (?,?,?,?)", values)
            except sqlite3.IntegrityError:
                raise InputError(f"there is already an account {name!r}. Choose another name.") from None
        return Account(name, role)

    def set_password(self, name: str, password: str) -> None:
        """Give an open account another password and end its sessions. Raises InputError as `make` does."""
        _check_password(password)
        with self._connected() as database:
            values = (PASSWORDS.hash(password), name)
            if not database.execute(
                "UPDATE accounts SET password = ? WHERE name = ? AND closed IS NULL", values
            ).rowcount:
                raise InputError(f"there is no open account with the name {name!r}.")
            database.execute("DELETE FROM sessions WHERE account = ?", (name,))

    def list(self) -> list[Account]:
        """All accounts that are not closed, by name."""
        with self._connected() as database:
            rows = database.execute("SELECT name, role FROM accounts WHERE closed IS NULL ORDER BY name")
            return [Account(*row) for row in rows]

    def close(self, name: str) -> None:
        """Close an account and end its sessions; its name is never given again. Raises InputError if it is unknown."""
        with self._connected() as database:
            closed = database.execute(
                "UPDATE accounts SET closed = ? WHERE name = ? AND closed IS NULL", (_now().isoformat(), name)
            )
            if not closed.rowcount:
                raise InputError(f"there is no open account with the name {name!r}.")
            database.execute("DELETE FROM sessions WHERE account = ?", (name,))

    def log_in(self, name: str, password: str) -> tuple[str, Session] | None:
        """A new session and its secret token; None if name or password is wrong. Both cases take the same time."""
        with self._connected() as database:
            found = database.execute(
                "SELECT role, password FROM accounts WHERE name = ? AND closed IS NULL", (name,)
            ).fetchone()
            stored = found[1] if found else _NOBODY
            if not PASSWORDS.verify(password, stored) or not found:
                return None
            return _begin(database, Account(name, found[0]))

    def link(self, name: str) -> str:
        """The secret of a link that logs in once as `name`, within LINK."""
        token = secrets.token_urlsafe(32)
        with self._connected() as database:
            database.execute("INSERT INTO links VALUES (?,?,?)", (_digest(token), name, _now().isoformat()))
        return token

    def follow(self, link: str) -> tuple[str, Session] | None:
        """A new session and its secret token for the secret of a link; None if it was used, is too old or unknown."""
        with self._connected() as database:
            database.execute("DELETE FROM links WHERE made < ?", ((_now() - LINK).isoformat(),))
            name = database.execute("DELETE FROM links WHERE token = ? RETURNING account", (_digest(link),)).fetchone()
            role = (
                name
                and database.execute("SELECT role FROM accounts WHERE name = ? AND closed IS NULL", name).fetchone()
            )
            return _begin(database, Account(name[0], role[0])) if role else None

    def session(self, token: str) -> Session | None:
        """The session of a token; None if it ended or never was."""
        with self._connected() as database:
            row = database.execute(
                "SELECT a.name, a.role, s.csrf, s.begun, s.seen FROM sessions s JOIN accounts a ON a.name = s.account "
                "WHERE s.token = ? AND a.closed IS NULL",
                (_digest(token),),
            ).fetchone()
            if row is None:
                return None
            now, begun, seen = _now(), *(datetime.fromisoformat(each) for each in row[3:])
            if now - seen > IDLE or now - begun > LONGEST:
                database.execute("DELETE FROM sessions WHERE token = ?", (_digest(token),))
                return None
            if now - seen > timedelta(minutes=1):
                database.execute("UPDATE sessions SET seen = ? WHERE token = ?", (now.isoformat(), _digest(token)))
        return Session(Account(row[0], row[1]), row[2])

    def log_out(self, token: str) -> None:
        """End a session."""
        with self._connected() as database:
            database.execute("DELETE FROM sessions WHERE token = ?", (_digest(token),))


def _check_password(password: str) -> None:
    if len(password) < SHORTEST_PASSWORD:
        raise InputError(f"the password is too short: {SHORTEST_PASSWORD} characters at least.")
    if len(password) > LONGEST_PASSWORD:  # the log-in takes no longer one
        raise InputError(f"the password is too long: {LONGEST_PASSWORD} characters at most.")


def _begin(database: sqlite3.Connection, account: Account) -> tuple[str, Session]:
    token, csrf, now = secrets.token_urlsafe(32), secrets.token_urlsafe(32), _now().isoformat()
    database.execute("INSERT INTO sessions VALUES (?,?,?,?,?)", (_digest(token), account.name, csrf, now, now))
    return token, Session(account, csrf)


def _now() -> datetime:
    return datetime.now(UTC)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


# Verified where the name is unknown, so that time says nothing: of a random text that nobody kept. To make one takes as
# long as to log in, and every command that only imports this module would.
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$pUeqYqij33+RMaUHgVEDQg$o/IfpEzuFsZSC7GZDNSmYs46O+jmnnNNe0NyVstBmgU"
