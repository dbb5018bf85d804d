"""The settings of [transport]: what fits together, what is refused, old files."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import config
from gateway.errors import StartupError
from tests.certificates import Authority

NODE = '[node]\nagencies = ["police"]\ndirectory = "directory.json"\n[transport]\nkind = "rabbitmq"\n'
SECRET = "Zephyrine-Quillfeather"


def settings(folder: Path, lines: str) -> config.Settings:
    return config.parse(NODE + lines, folder / "gateway.toml")


def test_an_old_file_is_one_address_without_tls(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{SECRET}\n")
    found = settings(tmp_path, 'url = "amqp://police@localhost/gateway"\npassword_file = "password"\n')
    assert found.broker_urls() == (f"amqp://police:{SECRET}@localhost/gateway",)
    assert found.broker_tls() is None
    assert found.broker_account() == "police"


def test_several_addresses_and_a_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("police")
    found = settings(
        tmp_path,
        'url = "amqps://police@broker-1/gateway"\nmore_urls = ["amqps://police@broker-2:5673/gateway"]\n'
        'ca_file = "ca.pem"\ncert_file = "police.pem"\nkey_file = "police-key.pem"\n',
    )
    assert found.broker_urls() == (
        "amqps://police@broker-1/gateway",
        "amqps://police@broker-2:5673/gateway",
    )
    tls = found.broker_tls()
    assert tls is not None
    assert tls.minimum_version.name == "TLSv1_3"
    assert tls.check_hostname


def test_a_broker_elsewhere_without_tls_must_be_asked_for(tmp_path: Path) -> None:
    found = settings(tmp_path, 'url = "amqp://police@broker/v"\nallow_amqp = true')
    assert found.broker_urls() == ("amqp://police@broker/v",)


@pytest.mark.parametrize(
    "lines", ['url = "amqp://[::1]"', 'url = "amqp://police@127.0.0.1"\nuser_id = false']
)
def test_an_account_that_is_not_named_or_not_wanted_is_not_stated(tmp_path: Path, lines: str) -> None:
    assert settings(tmp_path, lines).broker_account() == ""


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (f'url = "amqp://a"\nmore_urls = ["amqp://u:{SECRET}@b"]', "password_file"),
        ('url = "amqp://a"\nmore_urls = ["http://b"]', "amqp://"),
        ('url = "amqps://x@a/v"\nmore_urls = ["amqps://y@b/v"]', "host and port"),
        ('url = "amqps://x@a/v"\nmore_urls = ["amqp://x@b/v"]', "host and port"),
        ('url = "amqps://a"\ncert_file = "c"', "go together"),
        ('url = "amqps://a"\ncert_file = "c"\nkey_file = "k"\npassword_file = "p"', "one way"),
        ('url = "amqp://localhost"\nca_file = "c"', "amqps://"),
        ('url = "amqp://broker"', "allow_amqp"),
        ('url = "amqp://localhost"\nmore_urls = ["amqp://broker-2"]', "allow_amqp"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_one_line(tmp_path: Path, lines: str, why: str) -> None:
    with pytest.raises(StartupError, match=why) as caught:
        settings(tmp_path, lines)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    found = settings(tmp_path, 'url = "amqps://a"\nca_file = "absent.pem"')
    with pytest.raises(StartupError, match=r"absent\.pem"):
        found.broker_tls()
