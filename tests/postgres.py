"""A private PostgreSQL server: its own data folder and port on loopback; started and stopped by pid."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg

from bench.ports import free_port

START_TIMEOUT = 60.0
"""Seconds."""


def programs() -> Path | None:
    """The folder of the newest server here; `make test` installs Debian's."""
    if named := os.environ.get("POSTGRESQL_BIN"):
        return Path(named)
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda path: int(path.parent.name), default=None)


class PostgresServer:
    """One server. It syncs as in earnest, so that what a test kills it for means something."""

    def __init__(self) -> None:
        folder = programs()
        if folder is None:
            raise RuntimeError("PostgreSQL is not installed: `make test` installs it")
        self._programs = folder
        # Not below pytest's folder: only its owner may enter that, and the server refuses to run as root.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._user = _user()
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "--username=gateway", "--auth=trust", "--encoding=UTF8", "--locale=C")

    @property
    def data(self) -> Path:
        """The server's data folder."""
        return self.folder / "data"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), "--pgdata", str(self.data), *arguments],
            user=self._user,
            cwd=self.folder,
            capture_output=True,
            check=True,
            timeout=START_TIMEOUT,
        )

    def start(self) -> None:
        """Start (again) and wait until it serves."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "on",
            "full_page_writes": "on",
            "shared_buffers": "32MB",
            "max_connections": "60",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", str(self.data), *options],
                user=self._user,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        ends = time.monotonic() + START_TIMEOUT
        while time.monotonic() < ends and self._process.poll() is None:
            if self._ready():
                return
            time.sleep(0.05)
        text = (self.folder / "output").read_text(errors="replace")[-2000:]
        self.stop()
        raise RuntimeError(f"PostgreSQL did not start:\n{text}")

    def _ready(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def create_database(self) -> str:
        """A fresh, empty database; its URL."""
        name = f"t{uuid4().hex[:12]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def url(self, database: str) -> str:
        """The URL of a database."""
        return f"postgresql://gateway@127.0.0.1:{self.port}/{database}"

    def kill(self) -> None:
        """kill -9, the server and what serves its connections; the data stays."""
        if self._process is None:
            return
        server = psutil.Process(self._process.pid)
        server.suspend()  # it starts no other while they are listed
        children = server.children(recursive=True)
        for process in (server, *children):
            process.kill()
        self._process.wait(30)
        # A server does not start while a process of the one before it holds its shared memory.
        psutil.wait_procs(children, timeout=30)
        self._process = None

    def stop(self) -> None:
        """Stop the server and delete its folder."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)  # "fast": does not wait for its clients
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None
        shutil.rmtree(self.folder, ignore_errors=True)


def _user() -> str | None:
    """Whom to run as: the server refuses root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
