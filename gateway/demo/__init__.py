"""`gateway demo`: five agencies, real nodes, real HTTP, real referrals, and what became of every one."""

from gateway.demo.play import run_demo

__all__ = ["run_demo"]
