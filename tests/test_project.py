"""The frame around the product: the commands run, the rules that are stated are enforced, the links hold."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from gateway import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


def run(*command: str | Path, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a small environment and keep what it says."""
    base = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=base | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


# Makefile and scripts


@pytest.mark.parametrize(
    "target", ["setup", "demo", "test", "faults", "bench", "soak", "check", "sbom", "clean"]
)
def test_make_knows_the_target_and_says_what_it_is_for(target: str) -> None:
    assert run("make", "--dry-run", target).returncode == 0
    assert re.search(rf"^  make {target}\s+\w", run("make").stdout, re.MULTILINE)


@pytest.mark.parametrize("script", [".ci/run", "tools/ensure-venv", "tools/ensure-rabbitmq"])
def test_scripts_are_executable_and_stop_at_the_first_error(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    assert run("bash", "-n", path).returncode == 0
    assert "set -euo pipefail" in path.read_text("utf-8")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder to use as PATH: the few programs that every machine has, and no Python."""
    for name in ("bash", "dirname", "env", "rm", "mktemp", "tail"):
        found = shutil.which(name)
        assert found
        (tmp_path / name).symlink_to(found)
    return tmp_path


def test_without_a_python_it_says_what_is_wanted(bare: Path, tmp_path: Path) -> None:
    tools = tmp_path / "project" / "tools"
    tools.mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "ensure-venv", tools)
    old = bare / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")  # one that is there and is too old
    old.chmod(0o755)
    done = run(tools / "ensure-venv", "run", PATH=str(bare))
    assert done.returncode == 1
    assert "Python 3.11 or later" in done.stderr
    assert not (tools.parent / ".venv").exists()


def test_rabbitmq_that_is_there_is_left_alone(bare: Path) -> None:
    server = bare / "rabbitmq-server"
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    done = run(ROOT / "tools" / "ensure-rabbitmq", PATH=str(bare), RABBITMQ_SERVER=str(server))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_apt_it_says_what_to_install(bare: Path) -> None:
    done = run(ROOT / "tools" / "ensure-rabbitmq", PATH=str(bare), RABBITMQ_SERVER=str(bare / "absent"))
    assert done.returncode == 1
    assert "RabbitMQ 3.10 or later" in done.stderr


def test_without_node_it_says_that_a_test_will_be_skipped(bare: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(
        ROOT / "tests" / "interop" / "node",
        project / "tests" / "interop" / "node",
        ignore=lambda *_: ["node_modules"],
    )
    (project / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "ensure-node-packages", project / "tools")
    done = run(project / "tools" / "ensure-node-packages", PATH=str(bare))
    assert (done.returncode, done.stdout) == (0, "")
    assert "will be skipped" in done.stderr


# What the product is made of


def test_the_sbom_is_the_lock_file() -> None:
    """Every package that an installation with all extras can have, with its version and all its hashes."""
    done = run("make", "sbom")
    assert done.returncode == 0, done.stderr
    sbom = json.loads((ROOT / ".build" / "sbom.json").read_text("utf-8"))
    assert (sbom["bomFormat"], sbom["metadata"]["component"]["name"]) == ("CycloneDX", "referral-gateway")
    assert sbom["metadata"]["component"]["version"] == __version__
    locked = {one["name"]: one for one in tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))["package"]}
    own = locked["referral-gateway"]
    wanted = [*own["dependencies"], *(one for more in own["optional-dependencies"].values() for one in more)]
    needed: set[tuple[str, str]] = set()
    while wanted:
        one = wanted.pop()
        for extra in ("", *one.get("extra", ())):
            if (one["name"], extra) not in needed:
                needed.add((one["name"], extra))
                package = locked[one["name"]]
                wanted += package.get("optional-dependencies", {}).get(extra, [])
                wanted += package.get("dependencies", [])
    listed = {
        (one["name"], one["version"]): {
            hash_["content"] for place in one["externalReferences"] for hash_ in place["hashes"]
        }
        for one in sbom["components"]
    }
    assert listed == {
        (name, locked[name]["version"]): {
            file["hash"].removeprefix("sha256:")
            for file in (*locked[name].get("wheels", ()), *filter(None, [locked[name].get("sdist")]))
        }
        for name, _ in needed
    }
    assert {"cryptography", "psycopg-binary", "python-pkcs11"} <= {name for name, _ in listed}


# Skipped tests fail in CI


SKIPPING = """
    import pytest
    def test_passes(): pass
    def test_skips(): pytest.skip({reason!r})
    @pytest.mark.xfail(reason="known")
    def test_fails_as_known(): assert False
"""


def run_pytest(tmp_path: Path, body: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on one file, with the plugin and away from this project's settings."""
    (tmp_path / "test_it.py").write_text(textwrap.dedent(body))
    plugin = (
        "-p",
        "tests.plugin_skips",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        "--rootdir",
        str(tmp_path),
    )
    return run(sys.executable, "-m", "pytest", *plugin, *options, tmp_path, PYTHONPATH=str(ROOT))


@pytest.mark.parametrize(
    ("options", "outcome", "status"),
    [((), "1 skipped", 0), (("--strict-skips",), "1 failed", 1), (("--strict-skips", "-n1"), "1 failed", 1)],
)
def test_a_skip_fails_where_it_is_told_to(
    tmp_path: Path, options: tuple[str, ...], outcome: str, status: int
) -> None:
    done = run_pytest(tmp_path, SKIPPING.format(reason="no broker here"), *options)
    assert done.returncode == status, done.stdout
    assert outcome in done.stdout.splitlines()[-1]
    assert "1 passed" in done.stdout.splitlines()[-1]


def test_a_module_that_skips_itself_fails_too(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "import pytest\npytest.importorskip('no_such_module')\n", "--strict-skips")
    assert done.returncode != 0


def test_only_a_missing_data_folder_excuses_a_skip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests import plugin_skips

    class Report:
        outcome = "skipped"
        longrepr: object = ("file", 1, f"Skipped: {plugin_skips.NO_DATA}")

    class Config:
        def getoption(self, name: str) -> bool:
            return True

    outcomes = {}
    for there in (True, False):
        monkeypatch.setattr(plugin_skips, "SHARED_DATA", tmp_path if there else tmp_path / "absent")
        report = Report()
        plugin_skips._judge(report, Config())  # type: ignore[arg-type]
        outcomes[there] = report.outcome
    assert outcomes == {True: "failed", False: "skipped"}


# Import rules


def test_every_dependency_has_its_place() -> None:
    """Each third-party library the product needs is fenced by an import rule."""
    named = {re.split(r"[<>=; ]", line)[0].replace("-", "_") for line in PROJECT["project"]["dependencies"]}
    fenced = {
        module
        for contract in PROJECT["tool"]["importlinter"]["contracts"]
        for module in contract.get("forbidden_modules", ())
    }
    assert named <= fenced


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("protocol/delivery.py", "import cryptography", "cryptography and CBOR stay in crypto"),
        ("engine/tasks.py", "import logging", "Nothing but observability logs"),
        ("protocol/retry.py", "import gateway.store.base", "Dependencies point one way"),
        ("store/base.py", "import gateway.observability.metrics", "Dependencies point one way"),
    ],
)
def test_a_stray_import_is_caught(tmp_path: Path, module: str, line: str, broken: str) -> None:
    shutil.copytree(ROOT / "gateway", tmp_path / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "gateway" / module).open("a") as file:
        file.write(f"\n{line}\n")
    lint = Path(sys.executable).parent / "lint-imports"
    done = run(lint, "--no-cache", "--no-logo", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert f"{broken} BROKEN" in done.stdout


# Pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_hold(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link and link[0] != "#"]
    broken = [link for link in links if not (page.parent / link.split("#")[0]).exists()]
    assert broken == []


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_says_what_was_rejected_and_is_listed(page: Path) -> None:
    text = page.read_text("utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["Context", "Decision", "Rejected", "Consequences"]
    assert re.match(rf"# {page.stem[:4]}: \S", text)
    assert f"]({page.name})" in (page.parent / "README.md").read_text("utf-8")


# Threat model and security review


def rows_of(page: str, row: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text("utf-8")
    return [line for line in text.splitlines() if re.match(row, line) and "---" not in line]


ROWS = rows_of("threat-model.md", r"\| [STRIDE]")
CLAIMS = rows_of("security-review.md", r"\| .* \| .*`tests/")


def test_threats_and_claims_are_found() -> None:
    assert len(ROWS) > 30
    assert len(CLAIMS) > 20


def test_each_arrow_has_every_letter_of_stride() -> None:
    page = (ROOT / "docs" / "threat-model.md").read_text("utf-8")
    arrows = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    assert len(arrows) == 8
    for arrow in arrows:
        letters = "".join(re.findall(r"^\| ([STRIDE](?:, [STRIDE])*) \|", arrow, re.MULTILINE))
        assert set("STRIDE") <= set(letters), arrow.splitlines()[0]


@pytest.mark.parametrize("row", [*ROWS, *CLAIMS])
def test_each_threat_and_claim_names_tests_that_exist(row: str) -> None:
    file = ""
    last = row.rsplit(" | ", maxsplit=1)[-1]
    named = re.findall(r"`([^`]*)`", last)
    assert named or (last == "nothing |" and row in ROWS)
    for one in named:
        path, _, test = one.partition("::")
        file = path or file
        assert (ROOT / file).is_file(), one
        if test:
            assert re.search(rf"def {test}\b", (ROOT / file).read_text("utf-8")), one
