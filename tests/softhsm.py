"""A PKCS#11 token in software for the tests: SoftHSM, with its own folder and configuration."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PIN = "48151623"
_MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")


def module() -> Path | None:
    """SoftHSM's module; `make test` installs Debian's."""
    candidates = [os.environ.get("SOFTHSM2_MODULE", ""), *_MODULES]
    return next((Path(one) for one in candidates if one and Path(one).is_file()), None)


class SoftToken:
    """One token. Its configuration is named in this process's environment, where the module looks."""

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

    def environment(self) -> dict[str, str]:
        """For a process that shall find the token."""
        return {**os.environ, "SOFTHSM2_CONF": str(self.configuration)}
