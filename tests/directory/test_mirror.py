"""A mirror that is slow, hostile or not who it should be, and a cache that two use at once."""

from __future__ import annotations

import multiprocessing
import shutil
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.directory import mirror as module
from gateway.directory.mirror import DirectoryMirror
from gateway.errors import StartupError
from tests.certificates import Authority
from tests.directory.ground import Ground


def agreements(mirror: DirectoryMirror) -> list[str]:
    return [one.id for one in mirror.current.document.agreements]


class Web(ThreadingHTTPServer):
    """A web server that may answer otherwise for a while."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.instead: Callable[[SimpleHTTPRequestHandler], None] | None = None
        self.enough = threading.Event()
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        assert isinstance(self.server, Web)
        if self.server.instead is None:
            super().do_GET()
            return
        try:
            self.server.instead(self)
        except OSError:
            pass  # who asked has gone


@contextmanager
def serving(folder: Path, tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    server = Web(folder)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.enough.set()
        server.shutdown()
        thread.join()
        server.server_close()


def drip(asked: SimpleHTTPRequestHandler, before: bytes) -> None:
    """A byte now and then, for as long as anybody listens: every single wait is short."""
    server = asked.server
    assert isinstance(server, Web)
    asked.wfile.write(before)
    while not server.enough.wait(0.02):
        asked.wfile.write(b" ")
        asked.wfile.flush()


DRIPS = [b"HTTP/1.1 200 OK\r\nContent-Length: 16000\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Long: "]


@pytest.mark.parametrize("before", DRIPS, ids=["body", "header"])
def test_a_mirror_that_drips_holds_up_neither_a_look_nor_a_start(
    ground: Ground, before: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    with serving(ground.repo) as web:
        url = f"http://127.0.0.1:{web.server_port}"
        mirror = ground.mirror(url)
        web.instead = partial(drip, before=before)
        ground.change("one")
        assert not mirror.refresh()
        again = DirectoryMirror(url, ground.root(), ground.folder / "cache")
        assert (agreements(mirror), agreements(again)) == ([], [])
        looks = [one for one in threading.enumerate() if one.name == "directory-look"]
        assert not mirror.refresh()
        assert [one for one in threading.enumerate() if one.name == "directory-look"] == looks
        assert all(one.daemon for one in looks)
        web.instead = None
        web.enough.set()
        for look in looks:
            look.join()
        mirror.refresh()  # what the look before said, if anything
        mirror.refresh()
        assert agreements(mirror) == ["one"]


def test_a_download_that_drips_is_given_up(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 0.2)
    with serving(ground.repo) as web:
        mirror = ground.mirror(f"http://127.0.0.1:{web.server_port}")
        web.instead = partial(drip, before=DRIPS[0])
        assert not mirror.refresh()
        assert not web.enough.is_set(), "it was not the mirror that ended it"
        assert (mirror._looking, ground.refused) == (None, 0)


def test_what_comes_late_is_taken_at_the_next_look(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(ground.repo) as web:
        mirror = ground.mirror(f"http://127.0.0.1:{web.server_port}")
        ground.change("one")

        def late(asked: SimpleHTTPRequestHandler) -> None:
            web.enough.wait()
            SimpleHTTPRequestHandler.do_GET(asked)

        web.instead = late
        with monkeypatch.context() as impatient:
            impatient.setattr(module, "PATIENCE", 0.2)
            assert not mirror.refresh()
        web.enough.set()
        assert mirror.refresh()
        assert agreements(mirror) == ["one"]


def broken_off(asked: SimpleHTTPRequestHandler) -> None:
    asked.wfile.write(DRIPS[0] + b"{")
    asked.close_connection = True


def test_an_answer_that_breaks_off_is_none(ground: Ground) -> None:
    with serving(ground.repo) as web:
        url = f"http://127.0.0.1:{web.server_port}"
        mirror = ground.mirror(url)
        web.instead = broken_off
        assert not mirror.refresh()
        assert agreements(ground.mirror(url)) == []
        assert ground.refused == 0


def endless(asked: SimpleHTTPRequestHandler) -> None:
    asked.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        asked.wfile.write(b" " * 65536)


def test_an_endless_answer_is_refused(ground: Ground) -> None:
    with serving(ground.repo) as web:
        mirror = ground.mirror(f"http://127.0.0.1:{web.server_port}")
        web.instead = endless
        assert not mirror.refresh()
        assert ground.refused == 1


def elsewhere(asked: SimpleHTTPRequestHandler, to: str) -> None:
    asked.send_response(302)
    asked.send_header("Location", to + asked.path)
    asked.end_headers()


def test_a_redirect_leads_to_nothing_that_governance_did_not_sign(ground: Ground) -> None:
    (ground.folder / "other").mkdir()
    other = Ground(ground.folder / "other")
    shutil.copy(ground.file, other.file)
    other.begin()
    with serving(ground.repo) as web, serving(ground.repo) as moved, serving(other.repo) as theirs:
        mirror = ground.mirror(f"http://127.0.0.1:{web.server_port}")
        ground.change("one")
        for to, found in ((theirs, []), (web, []), (moved, ["one"])):
            web.instead = partial(elsewhere, to=f"http://127.0.0.1:{to.server_port}")
            assert mirror.refresh() is bool(found)
            assert agreements(mirror) == found
        for _ in range(3):  # of higher versions
            other.propose()
            other.sign_and_publish("ann", "bob")
        web.instead = partial(elsewhere, to=f"http://127.0.0.1:{theirs.server_port}")
        assert not mirror.refresh()
        assert agreements(mirror) == ["one"]
        web.instead = partial(elsewhere, to=f"file://{ground.repo}")
        assert not mirror.refresh()


def test_over_https_of_an_authority_that_the_machine_trusts(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(ground.folder / "ca")
    pair = authority.issue("mirror")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.cert, pair.key)
    with serving(ground.repo, tls) as web:
        url = f"https://localhost:{web.server_port}"
        with pytest.raises(StartupError, match="no directory can be had"):
            ground.mirror(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
        mirror = ground.mirror(url)
        ground.change("one")
        assert mirror.refresh()
        assert agreements(mirror) == ["one"]
        monkeypatch.setenv("SSL_CERT_FILE", str(Authority(ground.folder / "another").ca))
        ground.change("two")
        assert not mirror.refresh()
        assert (agreements(mirror), ground.refused) == (["one"], 0)


def busy(asked: SimpleHTTPRequestHandler) -> None:
    asked.send_response(503)
    asked.send_header("Retry-After", "3600")
    asked.send_header("Content-Length", "0")
    asked.end_headers()


def test_a_mirror_does_not_say_when_it_is_looked_at_next(ground: Ground) -> None:
    with serving(ground.repo) as web:
        mirror = ground.mirror(f"http://127.0.0.1:{web.server_port}")
        ground.change("one")
        web.instead = busy
        assert not mirror.refresh()
        web.instead = None
        assert mirror.refresh()
        assert (agreements(mirror), ground.refused) == (["one"], 0)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "proxy.invalid:3128"])
def test_a_proxy_that_cannot_be_used_is_a_mirror_that_is_away(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    with serving(ground.repo) as web:
        mirror = ground.mirror(f"http://127.0.0.1:{web.server_port}")
        ground.change("one")
        monkeypatch.setenv("http_proxy", proxy)
        assert not mirror.refresh()
        assert ground.refused == 0


@pytest.mark.parametrize("name", ["http_proxy", "all_proxy"])
def test_behind_a_proxy_that_the_environment_names(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def forward(asked: SimpleHTTPRequestHandler) -> None:
        seen.append(asked.path)
        asked.path = asked.path.removeprefix("http://mirror.invalid")
        SimpleHTTPRequestHandler.do_GET(asked)

    seen: list[str] = []
    with serving(ground.repo) as proxy:
        proxy.instead = forward
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_port}")
        monkeypatch.setenv("no_proxy", "elsewhere.invalid")
        mirror = ground.mirror("http://mirror.invalid")
        ground.change("one")
        assert mirror.refresh()
        assert agreements(mirror) == ["one"]
        assert seen
        assert all(one.startswith("http://mirror.invalid/") for one in seen)
        monkeypatch.setenv("no_proxy", "mirror.invalid")
        before = len(seen)
        ground.change("two")
        assert not mirror.refresh()
        assert len(seen) == before


def open_often(repo: Path, root: Path, cache: Path, told: Any) -> None:
    """As an operator's commands do beside the node."""
    refused: list[int] = []
    for _ in range(20):
        DirectoryMirror(str(repo), root, cache, lambda: refused.append(1))
    told.put(len(refused))


def test_commands_beside_the_node_share_its_cache(ground: Ground) -> None:
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    arguments = (ground.repo, ground.root(), ground.folder / "cache", told)
    others = [context.Process(target=open_often, args=arguments) for _ in range(2)]
    for one in others:
        one.start()
    for one in others:
        one.join()
    assert [one.exitcode for one in others] == [0, 0]
    assert [told.get() for _ in others] == [0, 0]


def test_a_cache_that_cannot_be_written_is_reported_and_raises_nothing(ground: Ground) -> None:
    mirror = ground.mirror()
    part = ground.folder / "cache" / f".{module.GOOD}.part"
    part.mkdir()
    ground.change("one")
    assert not mirror.refresh()
    assert (agreements(mirror), ground.refused) == ([], 1)
    part.rmdir()
    assert mirror.refresh()
    assert agreements(mirror) == ["one"]


def test_what_has_not_changed_is_not_read_again(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = ground.mirror()
    again = ground.mirror()
    held = mirror.current

    def parsed(*_: object, **__: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(module, "parse", parsed)
    assert not mirror.refresh()
    assert not again.refresh()
    assert mirror.current is held
