"""A real PostgreSQL server, on loopback in a folder of its own; tests that need one skip where none is."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from profiles.store import EventStore

MISSING = (
    "PostgreSQL is not installed: there is no initdb, neither on the path nor in /usr/lib/postgresql/*/bin "
    "(apt-get install postgresql)"
)
PASSWORD = "s3cret/with:odd@signs?&%"
# What a power cut would lose is not what most tests ask about; those that do ask start their own.
HASTY = {"fsync": "off", "full_page_writes": "off", "max_connections": "500"}


@dataclass
class PostgresServer:
    """A server that can be stopped, killed and started again; databases come and go on it."""

    programs: Path
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    port: int = 0

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def create(self) -> None:
        password = self.folder / "password"
        password.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (self.folder, password):
                shutil.chown(path, account())
        secret = ["--auth=scram-sha-256", f"--pwfile={password}", "--username=owner"]
        self.run("initdb", "-D", self.data, "--encoding=UTF8", "--locale=C", "--no-sync", *secret)

    def start(self) -> None:
        for _ in range(3):  # another process may take the port between asking for it and using it
            self.port = self.port or free_port()
            here = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
            options = " ".join(f"-c {k}='{v}'" for k, v in (here | self.settings).items())
            log = self.folder / "log"
            with suppress(subprocess.CalledProcessError):
                self.run("pg_ctl", "-D", self.data, "-o", options, "-l", log, "-w", "-t", "60", "start")
                return
            self.port = 0
        pytest.fail(f"PostgreSQL does not start: {log.read_text()[-2000:]}")

    def stop(self, mode: str = "fast") -> None:
        """Stop as `pg_ctl` does; `immediate` is a crash: no checkpoint, no good-bye."""
        self.run("pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", "60", "stop")

    def run(self, program: str, *arguments: object) -> None:
        command = self.command(program, *arguments)
        subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True)

    def command(self, program: str, *arguments: object) -> list[str]:
        command = [str(self.programs / program), *map(str, arguments)]
        if os.geteuid() == 0:  # the server refuses to run as root
            command = ["runuser", "-u", account(), "--", *command]
        return command

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Stop the server at the end of the block, or of this process, however it ends."""
        stop = shlex.join(self.command("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop"))
        watch = ["sh", "-c", f"read -r _; {stop} >/dev/null 2>&1; rm -rf {shlex.quote(str(self.folder))}"]
        with subprocess.Popen(watch, stdin=subprocess.PIPE, start_new_session=True):
            yield  # on leaving, its end of the pipe is closed, and it is waited for

    def url(self, database: str, user: str = "owner", password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement, as the owner, in no transaction."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def new_database(self) -> str:
        name = f"t{uuid4().hex}"
        self.execute(f"create database {name}")
        return name

    def drop_database(self, name: str) -> None:
        self.execute(f"drop database {name} with (force)")


def programs() -> Path | None:
    """Return the folder of the newest server installed."""
    installed = [p.parent for p in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if installed:
        return max(installed, key=lambda p: [int(n) for n in re.findall(r"\d+", p.parent.name)])
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def account() -> str:
    """Return the account that runs the server where the tests run as root."""
    import pwd

    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(settings: dict[str, str]) -> Iterator[PostgresServer]:
    found = programs()
    if found is None:
        pytest.skip(MISSING)
    # Not below pytest's own folder, which the server's account may not enter.
    server = PostgresServer(found, Path(tempfile.mkdtemp(prefix="attune-postgres-")), settings)
    with server.watched():
        server.create()
        server.start()
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server that tests share."""
    yield from serve(HASTY)


# A schema for each place, not a database: those take half a second each.
OPEN = """
from hashlib import blake2b
import psycopg
from profiles.store import open_store
schema = "s" + blake2b(str(place).encode(), digest_size=8).hexdigest()
with psycopg.connect({url!r}) as connection:
    connection.execute("select pg_advisory_xact_lock(1)")
    connection.execute(f"create schema if not exists {{schema}}")
store = open_store(f"{url}?options=-csearch_path%3D{{schema}}", place / "log")
"""


@dataclass(frozen=True)
class PostgresBackend:
    """How to open the log of a place, here and in another process."""

    code: str  # binds `store`, from `place`

    def open(self, place: Path) -> EventStore:
        names: dict[str, Any] = {"place": place}
        exec(self.code, names)
        store: EventStore = names["store"]
        return store


@pytest.fixture(scope="session")
def postgres_backend(postgres_server: PostgresServer) -> PostgresBackend:
    """PostgreSQL, for the suite that every store passes."""
    return PostgresBackend(OPEN.format(url=postgres_server.url(postgres_server.new_database())))


@pytest.fixture
def own_postgres_server() -> Iterator[PostgresServer]:
    """A durable server for one test alone, which may kill it."""
    yield from serve({})


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The address of a fresh database."""
    name = postgres_server.new_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)
