"""Connections to one PostgreSQL database, and what goes wrong there as words without secrets."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast

import psycopg
import sqlalchemy as sa

from profiles.schema import ContractError

ANSWER = 10  # seconds that the server has to take a new connection
CONNECTIONS = 5  # kept open
MORE = 10  # opened when many ask at once
UNREACHED = (
    "check that the server runs and that host, port, database, user and password of the address are right"
)
ADVICE = {
    "3F000": "create the schema that the user's search_path names",
    "42501": "grant this user CREATE and USAGE on the schema, or give the address of one who has them",
    "25006": "give the address of the primary server",
    "53100": "free some space on the server's disk",
    "53300": "raise the server's max_connections",
    "42P01": "its tables were taken away; restore a backup",
}  # by SQLSTATE

Isolation = Literal["REPEATABLE READ", "READ COMMITTED"]


class Server:
    """One database. Connections are pooled; one that was lost is replaced at the next call."""

    def __init__(self, address: str) -> None:
        url = _parsed(address)
        self.name = _name(url)
        self._begin()
        self._secrets = [s for s in (url.password, *_words(url, "password", "sslpassword")) if s]
        self._engine = sa.create_engine(
            url,
            pool_pre_ping=True,
            pool_size=CONNECTIONS,
            max_overflow=MORE,
            hide_parameters=True,  # events do not belong in messages or logs
            connect_args={
                "connect_timeout": _words(url, "connect_timeout", otherwise=str(ANSWER))[0],
                "client_encoding": "utf8",
                "application_name": _words(url, "application_name", otherwise="attune")[0],
            },
        )

    def _begin(self) -> None:
        self.turn = threading.Lock()  # one thread of this process asks for the upkeep lock at a time
        self.queue = threading.Lock()  # and one is the next

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Read one moment: every statement sees what was committed when the first began."""
        with self._connected("REPEATABLE READ") as connection:
            driver = driver_of(connection)
            driver.read_only = True
            try:
                yield connection
            finally:
                connection.rollback()
                if not driver.closed:  # as the server has it; SQLAlchemy's own option would allow writes
                    driver.read_only = None

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Run one transaction; each statement sees what was committed before it. Rolls back on any error."""
        with self._connected("READ COMMITTED") as connection, connection.begin():
            yield connection

    @contextmanager
    def alone(self) -> Iterator[sa.Connection]:
        """Yield a connection for a piece of work of several transactions; it is closed after it."""
        with self._connected("READ COMMITTED") as connection:
            try:
                yield connection
            finally:
                connection.invalidate()  # locks of its session end with it, whatever happened

    @contextmanager
    def _connected(self, isolation: Isolation) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection.execution_options(isolation_level=isolation)
        except sa.exc.TimeoutError:
            problem = f"all {CONNECTIONS + MORE} connections are in use; ask less at once"
            raise ContractError(f"{self.name}: {problem}") from None
        except (sa.exc.DBAPIError, psycopg.Error) as error:
            cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
            # Not chained: a password stands in the frames of a connection that failed, and what people
            # wrote in the details of a statement that did.
            raise self._told(cause) from None

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()

    def forget(self) -> None:
        """In a child process: leave the parent's connections alone."""
        self._begin()
        self._engine.dispose(close=False)

    def _told(self, cause: BaseException | None) -> Exception:
        """Return what is wrong in words: a ContractError where it can be mended outside this program."""
        state = getattr(cause, "sqlstate", None)
        if state is None and isinstance(cause, psycopg.ProgrammingError):  # may repeat part of a password
            return ContractError(
                f"{self.name}: an option of the address is unknown or its value is not taken"
            )
        told = cause.diag.message_primary if isinstance(cause, psycopg.Error) else None
        text = " ".join((told or str(cause)).split())
        for secret in self._secrets:
            text = text.replace(secret, "***")
        if state in ADVICE or isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError):
            advice = UNREACHED if state is None else ADVICE.get(state)
            return ContractError(f"{self.name}: {text}; {advice}" if advice else f"{self.name}: {text}")
        return RuntimeError(f"{self.name}: {text} (SQLSTATE {state})")


def driver_of(connection: sa.Connection) -> "psycopg.Connection[Any]":
    """Return psycopg's connection, for what SQLAlchemy has no words for."""
    return cast("psycopg.Connection[Any]", connection.connection.driver_connection)


def _parsed(address: str) -> sa.URL:
    """Return the address as SQLAlchemy's; what cannot be parsed is not repeated, it may hold a password."""
    try:
        url = sa.make_url(address)
    except (sa.exc.ArgumentError, ValueError):
        raise ContractError(
            "the address of the log is no address of PostgreSQL; write "
            "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, and @ : / in a password as %40 %3A %2F"
        ) from None
    return url.set(drivername="postgresql+psycopg")


def _name(url: sa.URL) -> str:
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{url.host or ''}{port}/{url.database or ''}"


def _words(url: sa.URL, *names: str, otherwise: str = "") -> list[str]:
    """Return these settings of the address."""
    found = [url.query.get(name, otherwise) for name in names]
    return [word if isinstance(word, str) else word[-1] for word in found]
