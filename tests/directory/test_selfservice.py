"""Agencies propose, two of three who govern sign, nodes follow: by command, over a real repository."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway import config
from gateway.cli import proposals
from gateway.crypto import governance
from gateway.crypto.proposal import read_proposal
from gateway.directory import repository
from gateway.directory.model import AgencyEntry
from gateway.directory.repository import Repository
from gateway.errors import StartupError
from gateway.messages import AgencyId
from gateway.node import now_ms
from tests.command import app, typed
from tests.directory.ground import PASSPHRASE, Ground
from tests.road import send, wait_for_arrival
from tests.world import COUNCIL, POLICE, QUICK, SCHOOL, provision, running


def entry(ground: Ground, agency: AgencyId) -> AgencyEntry:
    """As it is published."""
    return next(one for one in Repository(ground.repo).directory().agencies if one.id == agency)


def keys(ground: Ground, *arguments: object, fails: str = "") -> str:
    done = typed("keys", *arguments)
    if fails:
        assert fails in str(done.exception), done.output
        return str(done.exception)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def rotated(ground: Ground, agency: AgencyId = SCHOOL, lead: int = 0) -> Path:
    """The proposal of a rotation."""
    file = ground.folder / f"{agency}-keys-{len(list(ground.folder.glob('*.proposal')))}.proposal"
    keys(ground, "rotate", "-n", ground.folder / agency, "--lead", lead, "--proposal", file)
    return file


def signing(ground: Ground, agency: AgencyId = SCHOOL) -> str:
    """The id of the newest signing key that the node itself has."""
    return config.load(ground.folder / agency).key_store().load(agency).signing.kid.hex()


async def test_two_agencies_agree_and_one_rotates_and_referrals_go_through(tmp_path: Path) -> None:
    made = provision(tmp_path, (SCHOOL, POLICE), extra=QUICK, agreements=False)
    ground = Ground(tmp_path)
    ground.begin()
    file = ground.agreement("prevent")
    both = (file, file.with_stem(f"{file.stem}-replies"))
    consents = [ground.made("consent", agency, one) for one in both for agency in (SCHOOL, POLICE)]
    shown = ground.propose(*consents)
    assert "+ agreement prevent\n" in shown
    assert "agreement prevent-replies: proposed by police, school\n" in shown
    ground.sign_and_publish("ann", "cat")
    async with running(made) as world:
        await wait_for_arrival(world, (await send(world.clients[SCHOOL]))["message_id"])
        before = signing(ground)
        await world.stop(SCHOOL)
        ground.propose(rotated(ground))
        ground.sign_and_publish("bob", "cat")
        await world.start(SCHOOL)
        now_signs = world.nodes[SCHOOL].parts.keys[SCHOOL].signing.kid.hex()
        assert now_signs == signing(ground) != before
        await wait_for_arrival(world, (await send(world.clients[SCHOOL]))["message_id"])
    assert "agency school: proposed by school" in ground.typed("verify", ground.repo, "--root", ground.root())


def test_a_school_rotates_changes_what_it_accepts_and_revokes(ground: Ground) -> None:
    first = signing(ground)
    ground.propose(rotated(ground))
    ground.sign_and_publish("ann", "bob")
    assert [(key.use, key.suite) for key in entry(ground, SCHOOL).keys] == [
        *[("sign", "Ed25519"), ("seal", "HPKE-9-KE"), ("audit", "ML-DSA-65")],
        *[("sign", "Ed25519"), ("seal", "HPKE-9-KE")],
    ]
    old, new = (key for key in entry(ground, SCHOOL).keys if key.use == "seal")
    assert (old.ends, new.ends) == (new.starts, None)  # it may be destroyed later without asking again
    ground.propose(ground.made("change", SCHOOL, "--decline", "file", "--name", "Hill School"))
    ground.sign_and_publish("ann", "cat")
    changed = entry(ground, SCHOOL)
    assert (changed.name, [one.type for one in changed.accepts]) == ("Hill School", ["referral", "decision"])
    ground.propose(ground.made("change", SCHOOL, "--accept", "file/1"))
    ground.sign_and_publish("bob", "cat")
    assert [one.type for one in entry(ground, SCHOOL).accepts] == ["referral", "decision", "file"]
    stolen = ground.folder / "stolen.proposal"
    keys(ground, "revoke", first, "-n", ground.folder / SCHOOL, "--proposal", stolen)
    ground.propose(stolen)
    ground.sign_and_publish("ann", "bob")
    assert [key.kid.hex() for key in entry(ground, SCHOOL).keys if key.revoked] == [first]
    shown = ground.typed("verify", ground.repo)
    assert shown.splitlines() == [
        "version 1: the first that is looked at, governance vouches for all of it",
        *[f"version {number}: agency school: proposed by school" for number in range(2, 6)],
        "it holds: governance signed each version, and who must asked for what it may not change alone.",
    ]


def test_a_stolen_key_is_revoked_and_replaced_in_one_version(ground: Ground) -> None:
    stolen, file = signing(ground), ground.folder / "both.proposal"
    node = ("-n", ground.folder / SCHOOL)
    keys(ground, "revoke", stolen, *node, "--proposal", file, fails="rotate --lead 0")
    rotated(ground)
    keys(ground, "revoke", stolen, *node, "--proposal", file)
    ground.propose(file)
    ground.sign_and_publish("ann", "bob")
    listed = {key.kid.hex(): bool(key.revoked) for key in entry(ground, SCHOOL).keys if key.use == "sign"}
    assert listed == {stolen: True, signing(ground): False}


def test_a_key_with_p256_proposes_too(tmp_path: Path) -> None:
    provision(tmp_path, (SCHOOL, POLICE), agreements=False)
    for agency in (SCHOOL, POLICE):
        file = tmp_path / agency / config.FILE_NAME
        file.write_text(file.read_text().replace("[node]", '[node]\nsigning_suite = "ESP256"', 1))
    ground = Ground(tmp_path)
    ground.begin()
    ground.propose(rotated(ground), rotated(ground, POLICE))
    ground.sign_and_publish("ann", "bob")
    ground.change("one")
    assert {key.suite for key in entry(ground, SCHOOL).keys if key.use == "sign"} == {"Ed25519", "ESP256"}


def test_a_rotation_ends_keys_of_suites_that_the_settings_gave_up(ground: Ground) -> None:
    file = ground.folder / SCHOOL / config.FILE_NAME
    file.write_text(file.read_text().replace("[node]", '[node]\nopening_suites = ["HPKE-7-KE"]', 1))
    ground.propose(rotated(ground, lead=600))
    ground.sign_and_publish("ann", "bob")
    old, new = (key for key in entry(ground, SCHOOL).keys if key.use == "seal")
    assert (old.suite, new.suite) == ("HPKE-9-KE", "HPKE-7-KE")
    assert old.ends == new.starts > repository.now()


def test_old_signing_keys_end_and_destroyed_opening_keys_go(ground: Ground) -> None:
    """Or a copy of one could speak for ever, and the entry would outgrow a proposal."""
    file = ground.folder / SCHOOL / config.FILE_NAME
    # Short, and yet: a proposal may be granted 30 days after the new key was to begin.
    file.write_text(file.read_text("utf-8") + "\n[times]\nkeys_retire = 1\n", "utf-8")
    store = config.load(ground.folder / SCHOOL).key_store()
    first = store.load(SCHOOL)
    ground.propose(rotated(ground))
    ground.sign_and_publish("ann", "bob")
    signing = [key for key in entry(ground, SCHOOL).keys if key.use == "sign"]
    assert [key.ends for key in signing] == [signing[1].starts + timedelta(days=31), None]
    seals = [key.kid for key in entry(ground, SCHOOL).keys if key.use == "seal"]
    ground.propose(rotated(ground))
    ground.sign_and_publish("ann", "bob")
    assert [key.kid for key in entry(ground, SCHOOL).keys if key.use == "seal"][:2] == seals, "still here"
    store.destroy(SCHOOL, first.current_opening.kid, now_ms())
    ground.propose(rotated(ground))
    ground.sign_and_publish("ann", "bob")
    assert first.current_opening.kid not in [key.kid for key in entry(ground, SCHOOL).keys]
    assert first.signing.kid in [key.kid for key in entry(ground, SCHOOL).keys], "what it signed verifies"
    assert "it holds" in ground.typed("verify", ground.repo)


def test_a_rotation_that_was_not_published_is_proposed_again_without_new_keys(ground: Ground) -> None:
    first, made = rotated(ground, lead=600), signing(ground)
    second = rotated(ground, lead=900)
    assert signing(ground) == made
    ground.propose(first)
    ground.sign_and_publish("ann", "bob")
    ground.propose(second, fails="another state of the directory")


def test_a_proposal_counts_once(ground: Ground) -> None:
    """Even if the directory is as it was when it was made."""
    file = ground.agreement("one", "--no-both-ways")
    consents = [ground.made("consent", agency, file) for agency in (SCHOOL, POLICE)]
    ground.propose(*consents)
    ground.sign_and_publish("ann", "bob")
    ground.propose(ground.made("withdraw", POLICE, "one"))
    ground.sign_and_publish("ann", "bob")
    assert Repository(ground.repo).directory().agreements == ()
    ground.propose(*consents, fails="granted before")
    assert "agreement one: proposed by police" in ground.typed("verify", ground.repo)


def edited(ground: Ground, change: Callable[[Any], None]) -> Path:
    """The published directory, changed by hand."""
    file = ground.folder / f"edited-{len(list(ground.folder.glob('edited-*')))}.json"
    ground.typed("copy", ground.repo, file)
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    return file


def new_key_for_the_school(document: Any) -> None:
    school, police = (
        next(one for one in document["agencies"] if one["id"] == name) for name in (SCHOOL, POLICE)
    )
    school["keys"][0] = {**police["keys"][0], "starts": school["keys"][0]["starts"]}


def test_what_governance_alone_may_and_may_not(ground: Ground) -> None:
    ground.propose(
        directory=edited(ground, new_key_for_the_school), fails="agency school was changed by hand"
    )
    one = json.loads(ground.agreement("one").read_text())
    by_hand = edited(ground, lambda document: document["agreements"].append(one))
    ground.propose(directory=by_hand, fails="agreement one was changed by hand")
    assert "nothing is staged" in ground.typed("sign", ground.repo, *ground.by("ann"), fails="nothing")

    def revoke(document: Any) -> None:
        document["agencies"][0]["keys"][0]["revoked"] = "2026-11-24T00:00:00Z"

    shown = ground.propose(directory=edited(ground, revoke))
    assert "keys removed or revoked by governance" in shown
    ground.sign_and_publish("ann", "bob")
    provision(ground.folder / "more", (AgencyId("health"),), agreements=False)
    (health,) = json.loads((ground.folder / "more" / "directory.json").read_text())["agencies"]
    joined = edited(ground, lambda document: document["agencies"].append(health))
    assert "agency health: new, governance vouches for it" in ground.propose(directory=joined)
    ground.sign_and_publish("ann", "bob")
    gone = edited(ground, lambda document: document["agencies"].pop())
    assert "agency health: removed by governance" in ground.propose(directory=gone)
    ground.sign_and_publish("ann", "bob")
    assert "~ expires" in ground.propose()
    ground.sign_and_publish("ann", "bob")
    assert "version 5: nothing changed" in ground.typed("verify", ground.repo)


def staged_by_hand(ground: Ground, change: Callable[[Any], None], *proposals: Path) -> None:
    """As one who governs would stage it with a tool of his own."""
    file = edited(ground, change)
    files = {f"proposals/{one:064x}": part.read_bytes() for one, part in enumerate(proposals)}
    Repository(ground.repo)._stage_directory(9, file.read_bytes(), repository.now(), files)


def test_each_who_signs_checks_again(ground: Ground) -> None:
    staged_by_hand(ground, new_key_for_the_school)
    ground.typed(
        "sign", ground.repo, *ground.by("ann"), fails="what is staged may not be signed: agency school"
    )
    ground.typed("diff", ground.repo, fails="what is staged may not be signed: agency school")
    staged_by_hand(ground, lambda _: None, rotated(ground))
    ground.typed("sign", ground.repo, *ground.by("ann"), fails="under another's name")
    proposal = rotated(ground)
    ground.propose(proposal)
    (staged,) = (ground.repo / "staged").glob("proposals-*")
    staged.write_bytes(staged.read_bytes() + b"\0")
    ground.typed("sign", ground.repo, *ground.by("ann"), fails="not there, or another one")
    staged.unlink()
    ground.typed("sign", ground.repo, *ground.by("ann"), fails="not there, or another one")
    assert ground.typed("status", ground.repo).endswith("staged: targets version 2, 0 of 2 signatures\n")
    assert not ground.mirror().refresh()


def test_a_proposal_expires_while_governance_thinks(ground: Ground) -> None:
    ground.propose(rotated(ground))
    private = governance.load_key((ground.folder / "ann").read_bytes(), PASSPHRASE.encode())
    made = Repository(ground.repo)
    with pytest.raises(StartupError, match="may not be signed: the proposal of school"):
        made.sign(private, repository.now() + timedelta(days=31))
    with pytest.raises(StartupError, match="has expired"):
        made.propose(
            None, [next(ground.folder.glob("*.proposal")).read_bytes()], repository.now() + timedelta(31)
        )


def forged(repo: Path) -> None:
    file = next((repo / "targets" / "proposals").iterdir())
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def without_it(repo: Path) -> None:
    next((repo / "targets" / "proposals").iterdir()).unlink()


def unsigned(repo: Path) -> None:
    file = repo / "metadata" / "2.targets.json"
    document = json.loads(file.read_text())
    document["signatures"].pop()
    file.write_text(json.dumps(document))


def with_a_gap(repo: Path) -> None:
    (repo / "metadata" / "2.targets.json").unlink()


def of_others(repo: Path) -> None:
    file = repo / "metadata" / "1.root.json"
    document = json.loads(file.read_text())
    document["signed"]["version"] = 2
    (repo / "metadata" / "2.root.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (forged, "not there, or another one"),
        (without_it, "not there, or another one"),
        (unsigned, "version 2 is not signed by as many as must"),
        (with_a_gap, "the version before version 3 is missing"),
        (of_others, "root version 2 is not signed"),
    ],
)
def test_a_past_that_does_not_hold_is_told(ground: Ground, damage: Callable[[Path], None], why: str) -> None:
    ground.propose(rotated(ground))
    ground.sign_and_publish("ann", "bob")
    ground.propose()
    ground.sign_and_publish("ann", "bob")
    ground.typed("verify", ground.repo)
    damage(ground.repo)
    done = CliRunner().invoke(app, ["directory", "verify", str(ground.repo)])
    assert (done.exit_code, done.stdout.count("it holds")) == (1, 0)
    assert why in done.stderr


def test_governors_who_go_around_the_rule_are_found(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as lenient:
        lenient.setattr(Repository, "explain", lambda *_: [])
        staged_by_hand(ground, new_key_for_the_school)
        staged = ground.repo / "staged" / "targets.json"
        staged.write_text(staged.read_text().replace('"version": 9', '"version": 2').replace(":9}", ":2}"))
        ground.sign_and_publish("ann", "bob")
    done = CliRunner().invoke(app, ["directory", "verify", str(ground.repo)])
    assert done.exit_code == 1
    ground.typed("verify", ground.repo, "--since", 2)
    ground.typed("verify", ground.repo, "--since", 3, fails="no version 3")


def test_the_root_that_was_handed_over_decides(ground: Ground) -> None:
    (ground.folder / "other").mkdir()
    other = Ground(ground.folder / "other")
    shutil.copy(ground.file, other.file)
    other.begin()
    done = CliRunner().invoke(app, ["directory", "verify", str(ground.repo), "--root", str(other.root())])
    assert done.exit_code == 1
    ground.typed("rotate", ground.repo, "--add", ground.folder / "dan.pub", "--remove", ground.keyid("bob"))
    ground.sign_and_publish("ann", "cat")
    ground.typed("verify", ground.repo, "--root", ground.root())
    newer = ground.repo / "metadata" / "2.root.json"
    assert (
        CliRunner().invoke(app, ["directory", "verify", str(ground.repo), "--root", str(newer)]).exit_code
        == 1
    )
    ground.typed("verify", ground.repo, "--root", newer, "--since", 2)
    ground.typed("verify", ground.repo, "--root", ground.file, fails="is not TUF metadata")


def test_what_an_agency_cannot_propose(ground: Ground) -> None:
    node, out = ("-n", ground.folder / SCHOOL), ("--out", ground.folder / "out")
    file = ground.agreement("another")
    ground.typed("consent", file, "-n", ground.folder / COUNCIL, *out, fails="does not name council")
    ground.typed("consent", ground.root(), *node, *out, fails="is not an agreement")
    ground.typed("consent", ground.folder / "nothing", *node, *out, fails="cannot read")
    ground.typed("withdraw", "one", *node, *out, fails="has no such agreement")
    ground.typed("change", *node, *out, fails="changes nothing")
    ground.typed("change", *node, *out, "--accept", "letter", fails="cannot read such messages")
    ground.typed("change", *node, *out, "--accept", "referral/2", fails="cannot read such messages")
    ground.typed("change", *node, *out, "--accept", "referral/", fails="a type and a version")
    ground.typed("change", *node, *out, "--name", "", fails="the entry is not valid: /name")
    ground.typed("change", *node, *out, "-a", POLICE, "--name", "x", fails="does not serve police")
    ground.typed("change", *node, "--out", ground.file, "--name", "x", fails="never overwritten")
    ground.typed("change", *node, "--out", ground.folder / "no" / "out", "--name", "x", fails="cannot write")
    ground.typed("agree", "--from", SCHOOL, "--to", POLICE, "--purpose", "prevent", "--lawful-basis",
                 "public-task", fails="either the directory file")  # fmt: skip
    keys(ground, "rotate", *node, fails="name a new file with --proposal")
    keys(ground, "revoke", "00", *node, fails="name a new file with --proposal")
    keys(ground, "revoke", "00", *node, "--proposal", ground.folder / "out", fails="has such a key")
    assert not (ground.folder / "out").exists()
    ground.propose(ground.file, fails="is not a proposal as")
    ground.change("one")
    ground.typed("withdraw", "one", "-n", ground.folder / COUNCIL, *out, fails="does not name council")


def test_a_name_does_not_forge_what_governors_are_shown(ground: Ground) -> None:
    name = "Hill\x1b[2K\nagency     police  Police (police)\u202e"
    ground.propose(ground.made("change", SCHOOL, "--name", name))
    shown = ground.typed("show", "-d", ground.repo / "staged" / "directory.json")
    assert shown.count("\nagency ") == 3
    assert all(one.isprintable() for one in shown.replace("\n", ""))


def test_a_node_without_the_current_key_or_with_a_file_proposes_nothing(ground: Ground) -> None:
    out = ("--out", ground.folder / "out")
    (ground.folder / SCHOOL / "keys" / f"{SCHOOL}.json").unlink()
    settings = config.load(ground.folder / SCHOOL)
    settings.key_store().create(SCHOOL, 1)
    node = ("-n", ground.folder / SCHOOL)
    ground.typed("change", *node, *out, "--name", "x", fails="does not hold the key school signs with now")
    provision(ground.folder / "more", (AgencyId("health"),), agreements=False)
    more = ("-n", ground.folder / "more" / "health")
    ground.typed("change", *more, *out, "--name", "x", fails="directory is a file")
    keys(ground, "rotate", *more, "--proposal", ground.folder / "out", fails="leave --proposal out")
    file = ground.folder / "more" / "health" / config.FILE_NAME
    mirror = f'[node]\ndirectory_mirror = "{ground.repo}"\ndirectory_root = "{ground.root()}"'
    file.write_text(file.read_text().replace("[node]", mirror, 1))
    ground.typed("change", *more, *out, "--name", "x", fails="not in the published directory")


def test_what_was_proposed_stands_in_the_agencys_own_log(ground: Ground) -> None:
    before = set(config.load(ground.folder / SCHOOL).key_store().load(SCHOOL).dates)
    asked = rotated(ground)
    made = set(config.load(ground.folder / SCHOOL).key_store().load(SCHOOL).dates) - before
    listed = json.loads(typed("audit", "list", "-n", ground.folder / SCHOOL, "--json").stdout)["entries"]
    entered = [(one["kind"], one.get("kid"), one.get("digest")) for one in listed]
    digest = read_proposal(asked.read_bytes()).digest.hex()
    assert entered[-1] == ("proposal-made", None, digest)
    assert {kid for kind, kid, _ in entered if kind == "key-made"} == {kid.hex() for kid in made}


def test_no_proposal_is_handed_out_that_the_log_does_not_know(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StartupError("the database is away")

    monkeypatch.setattr(proposals, "enter", away)
    out = ground.folder / "out"
    ground.typed("change", "-n", ground.folder / SCHOOL, "--out", out, "--name", "x", fails="is away")
    assert not out.exists()
