"""A node's settings: one TOML file, read strictly. Paths to secrets, never secrets.

Relative paths are taken from the folder the file stands in. `gateway config describe` and
docs/config.md are generated from the descriptions here.
"""

from gateway.config.settings import FILE_NAME, Settings, load, parse

__all__ = ["FILE_NAME", "Settings", "load", "parse"]
