"""The durable state of a node: sealed envelopes and pseudonymous metadata, nothing in clear.

`base.py` is the interface, `sqlite.py` the default behind it; one file of SQL per promise.
"""
