"""A PKCS#11 token in software for the tests: SoftHSM, with its own folder and configuration."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pkcs11
import pytest

PIN = "48151623"
_MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")


def module() -> Path | None:
    """SoftHSM's module; `make test` installs Debian's."""
    candidates = [os.environ.get("SOFTHSM2_MODULE", ""), *_MODULES]
    return next((Path(one).resolve() for one in candidates if one and Path(one).is_file()), None)


NEEDED = [
    pytest.mark.skipif(module() is None, reason="needs SoftHSM: `make test` installs it"),
    pytest.mark.xdist_group("softhsm"),  # a process has the module once, with one configuration
]


class SoftToken:
    """One token, in a folder of its own."""

    def __init__(self, folder: Path, label: str = "test") -> None:
        found = module()
        if found is None:
            raise RuntimeError("SoftHSM is not installed: `make test` installs it")
        self.module, self.label, self.folder = found, label, folder
        self.configuration = folder / "softhsm2.conf"
        self.tokens = folder / "tokens"
        self.tokens.mkdir(parents=True)
        self.configuration.write_text(
            f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        self.pin_file = folder / "pin"
        self.pin_file.touch(0o600)
        self.pin_file.write_text(PIN + "\n")
        self.add(label)

    def add(self, label: str) -> None:
        """Another token in the same folder."""
        command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", PIN]
        subprocess.run(command, check=True, capture_output=True, timeout=60, env=self.environment())

    @contextmanager
    def here(self) -> Iterator[None]:
        """Let this process find it: the module reads its configuration when it starts."""
        before = os.environ.get("SOFTHSM2_CONF")
        os.environ["SOFTHSM2_CONF"] = str(self.configuration)
        pkcs11.lib(str(self.module)).reinitialize()
        try:
            yield
        finally:
            if before is None:
                del os.environ["SOFTHSM2_CONF"]
            else:
                os.environ["SOFTHSM2_CONF"] = before

    @contextmanager
    def away(self) -> Iterator[None]:
        """Pulled out, and put in again."""
        kept = self.folder / "away"
        self.tokens.rename(kept)
        self.tokens.mkdir()
        try:
            pkcs11.lib(str(self.module)).reinitialize()
            yield
        finally:
            shutil.rmtree(self.tokens)
            kept.rename(self.tokens)

    def environment(self) -> dict[str, str]:
        """For a process that shall find the token."""
        return {**os.environ, "SOFTHSM2_CONF": str(self.configuration)}
