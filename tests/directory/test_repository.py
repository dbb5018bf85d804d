"""The directory as a TUF repository: governance by command, and what a node takes from a mirror that lies."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gateway.crypto import governance
from gateway.directory import repository
from gateway.directory.mirror import DirectoryMirror
from gateway.directory.repository import Repository
from gateway.errors import StartupError
from tests.directory.ground import PASSPHRASE, Ground
from tests.road import metric
from tests.world import COUNCIL, POLICE, QUICK, SCHOOL, provision, running, until


@pytest.fixture
def served(ground: Ground) -> Iterator[str]:
    """The repository over HTTP."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(ground.repo)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def agreements(mirror: DirectoryMirror) -> list[str]:
    return [one.id for one in mirror.current.document.agreements]


def test_a_change_needs_as_many_signatures_as_the_threshold_says(ground: Ground) -> None:
    mirror = ground.mirror()
    assert set(mirror.current.agencies) == {SCHOOL, POLICE, COUNCIL}
    assert agreements(mirror) == []
    assert not mirror.refresh()
    ground.typed("propose", ground.repo, "-d", ground.file)
    ground.typed("publish", ground.repo, *ground.by("pub"), fails="targets version 2 has 0 of 2 signatures")
    ground.typed("sign", ground.repo, *ground.by("ann"))
    ground.typed("sign", ground.repo, *ground.by("ann"))
    ground.typed("publish", ground.repo, *ground.by("pub"), fails="has 1 of 2 signatures")
    ground.typed("sign", ground.repo, *ground.by("dan"), fails="nothing is staged that this key may sign")
    ground.typed("publish", ground.repo, *ground.by("ann"), fails="1 of 2")
    ground.typed("sign", ground.repo, *ground.by("cat"))
    ground.typed("publish", ground.repo, *ground.by("ann"), fails="not the publisher's key")
    ground.change("one", "ann", "cat")
    assert mirror.refresh()
    assert (agreements(mirror), ground.refused) == (["one"], 0)


def test_what_a_change_is_about_is_shown_before_it_is_signed(ground: Ground) -> None:
    ground.change("one")
    renamed = ground.made("change", COUNCIL, "--name", "Another name")
    ground.typed("copy", ground.repo, ground.folder / "edited.json")
    document = json.loads((ground.folder / "edited.json").read_text())
    document["agreements"] = []
    (ground.folder / "edited.json").write_text(json.dumps(document))
    shown = ground.propose(renamed, directory=ground.folder / "edited.json")
    assert "- agreement one\n" in shown
    assert "agreement one: removed by governance\n" in shown
    assert "~ agency council: name\n" in shown
    assert "agency council: proposed by council\n" in shown
    assert ground.typed("diff", ground.repo) == "".join(shown.splitlines(keepends=True)[:-1])
    status = ground.typed("status", ground.repo)
    assert "2 of 3 must sign" in status
    assert "staged: targets version 3, 0 of 2 signatures" in status


def test_who_breaks_the_glass_is_consented_to_shown_and_its_removal_seen_by_governors(ground: Ground) -> None:
    roles = [part for n in ("ann", "bob") for part in ("--break-glass", f"{n}-lead={ground.folder / n}.pub")]
    for wrong in (
        ["--threshold", 3],
        ["--break-glass", "x"],
        ["--break-glass", f"x={ground.folder / 'ann'}.pub"],
    ):
        terms = ("--from", SCHOOL, "--to", POLICE, "--purpose", "prevent", "--lawful-basis", "public-task")
        ground.typed("agree", "-d", ground.file, *terms, *roles, *wrong, fails="break")
    with_roles = ground.agreement("one", "--no-both-ways", *roles)
    ground.propose(*(ground.made("consent", agency, with_roles) for agency in (SCHOOL, POLICE)))
    shown = ground.typed("show", "-d", ground.repo / "staged" / "directory.json")
    assert "break-glass 2 of ann-lead, bob-lead" in shown
    ground.sign_and_publish("ann", "cat")
    without = ground.agreement("one", "--no-both-ways")
    again = [ground.made("consent", agency, without) for agency in (SCHOOL, POLICE)]
    assert "~ agreement one: break_glass" in ground.propose(*again)


def test_the_governors_change_and_nodes_follow_from_the_root_they_were_given(ground: Ground) -> None:
    mirror = ground.mirror()
    ground.typed(
        *("rotate", ground.repo, "--add", ground.folder / "dan.pub", "--remove", ground.keyid("cat")),
        *("--threshold", 3),
    )
    ground.typed("sign", ground.repo, *ground.by("cat"))
    ground.typed("sign", ground.repo, *ground.by("dan"))
    ground.typed("sign", ground.repo, *ground.by("ann"))
    ground.typed("publish", ground.repo, *ground.by("pub"), fails="signatures")
    ground.sign_and_publish("bob")
    mirror.refresh()
    assert ground.refused == 0
    ground.typed("propose", ground.repo, "-d", ground.file)
    ground.typed("sign", ground.repo, *ground.by("cat"), fails="nothing is staged that this key may sign")
    ground.change("one", "ann", "bob", "dan")
    assert mirror.refresh()
    assert agreements(ground.mirror(cache="fresh")) == ["one"]
    ground.typed("rotate", ground.repo, "--remove", ground.keyid("ann"), fails="fewer governance keys")


Lie = Callable[[Path, Path], None]


def altered(repo: Path, before: Path) -> None:
    (target,) = [one for one in (repo / "targets").iterdir() if not (before / "targets" / one.name).exists()]
    target.write_bytes(target.read_bytes().replace(b"police", b"polite"))


def rolled_back(repo: Path, before: Path) -> None:
    shutil.rmtree(repo)
    shutil.copytree(before, repo)


def mixed(repo: Path, before: Path) -> None:
    shutil.copy(before / "metadata" / "2.snapshot.json", repo / "metadata" / "3.snapshot.json")


def signed_by_the_publisher(repo: Path, before: Path) -> None:
    """Whoever holds the publisher's key, and no governor's, changes the list."""
    file = repo / "metadata" / "3.targets.json"
    document = json.loads(file.read_text())
    document["signed"]["version"] = 3
    document["signed"]["targets"]["directory.json"]["length"] += 0
    document["signatures"] = json.loads((repo / "metadata" / "timestamp.json").read_text())["signatures"]
    file.write_text(json.dumps(document))


def nonsense(repo: Path, before: Path) -> None:
    (repo / "metadata" / "timestamp.json").write_bytes(b"\x00{")


def endless(repo: Path, before: Path) -> None:
    (repo / "metadata" / "timestamp.json").write_bytes(b" " * 10_000_000)


@pytest.mark.parametrize("over", ["a folder", "HTTP"])
@pytest.mark.parametrize("lie", [altered, rolled_back, mixed, signed_by_the_publisher, nonsense, endless])
def test_a_mirror_that_lies_is_refused_and_the_last_good_copy_stays(
    ground: Ground, served: str, lie: Lie, over: str
) -> None:
    ground.change("one")
    old = ground.folder / "old"
    shutil.copytree(ground.repo, old)
    mirror = ground.mirror(served if over == "HTTP" else None)
    if lie is rolled_back:
        ground.change("two")
        assert mirror.refresh()
        held = ["one", "two"]
    else:
        ground.change("two")
        held = ["one"]
    lie(ground.repo, old)
    assert not mirror.refresh()
    assert (agreements(mirror), ground.refused) == (held, 1)


def test_a_frozen_mirror_expires_although_the_directory_itself_would_not(ground: Ground) -> None:
    mirror = ground.mirror()
    fortnight = (datetime.now(UTC) + repository.LIFETIMES["timestamp"]).timestamp() * 1000
    assert abs(mirror.current.expires - fortnight) < 60_000
    private = governance.load_key((ground.folder / "pub").read_bytes(), PASSPHRASE.encode())
    past = repository.now() - timedelta(days=30)
    Repository(ground.repo).publish(private, past)
    assert not mirror.refresh()
    assert ground.refused == 1, "what has expired is not taken"


def test_a_mirror_that_is_away_changes_nothing_and_a_restart_has_the_last_good_copy(ground: Ground) -> None:
    ground.change("one")
    mirror = ground.mirror()
    away = ground.folder / "away"
    root = ground.folder / "root.json"
    shutil.copy(ground.root(), root)
    ground.repo.rename(away)
    assert not mirror.refresh()
    again = DirectoryMirror(str(ground.repo), root, ground.folder / "cache")
    assert agreements(again) == ["one"]
    assert again.current.expires == mirror.current.expires
    with pytest.raises(StartupError, match="no last good copy"):
        DirectoryMirror(str(ground.repo), root, ground.folder / "nothing")
    away.rename(ground.repo)
    ground.change("two")
    assert again.refresh()
    assert agreements(again) == ["one", "two"]


def test_over_http(ground: Ground, served: str) -> None:
    mirror = ground.mirror(served)
    ground.change("one")
    assert mirror.refresh()
    assert agreements(mirror) == ["one"]


async def test_a_node_takes_its_directory_from_a_repository_and_an_agreement_from_governance(
    tmp_path: Path,
) -> None:
    made = provision(tmp_path, (SCHOOL, POLICE), extra=QUICK, agreements=False)
    ground = Ground(tmp_path)
    ground.begin()
    async with running(made) as world:
        source = world.nodes[SCHOOL].parts.source
        assert isinstance(source, DirectoryMirror)
        assert set(source.current.agencies) == {SCHOOL, POLICE}
        ground.change("one")
        await until(source.refresh, "the node has it")
        assert [one.id for one in source.current.document.agreements] == ["one"]
        # A fortnight before it expires, which is not yet when the directory does, the metric counts down.
        fortnight = repository.LIFETIMES["timestamp"].total_seconds()

        def counting() -> bool:
            return fortnight - 3600 < metric(world, SCHOOL, "gateway_directory_expires_seconds") <= fortnight

        await until(counting, "the metric says so")


def test_a_key_is_never_overwritten_and_wants_its_passphrase(ground: Ground) -> None:
    again = ("key", ground.folder / "ann", "--passphrase-file", ground.folder / "passphrase")
    ground.typed(*again, fails="never overwritten")
    (ground.folder / "other").write_text("another passphrase")
    ground.typed("propose", ground.repo, "-d", ground.file)
    wrong = (
        "sign",
        ground.repo,
        "--key",
        ground.folder / "ann",
        "--passphrase-file",
        ground.folder / "other",
    )
    ground.typed(*wrong, fails="the passphrase is another one")
    (ground.folder / "short").write_text("short")
    ground.typed(
        "key", ground.folder / "eve", "--passphrase-file", ground.folder / "short", fails="12 characters"
    )
    assert (ground.folder / "ann").stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in (ground.folder / "ann").read_bytes()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_file_that_others_can_reach_is_refused(ground: Ground, mode: int) -> None:
    ground.typed("propose", ground.repo)
    (ground.folder / "ann").chmod(mode)
    ground.typed("sign", ground.repo, *ground.by("ann"), fails="chmod 600")
    (ground.folder / "ann").chmod(0o600)
    assert "1 of 2" in ground.typed("sign", ground.repo, *ground.by("ann"))
