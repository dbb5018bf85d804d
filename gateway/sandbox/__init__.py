"""`gateway sandbox`: a node for a developer's system, and a pretend partner for each answer."""

from gateway.sandbox.run import run_sandbox

__all__ = ["run_sandbox"]
