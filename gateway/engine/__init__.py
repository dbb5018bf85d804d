"""The asyncio shell: takes what arrives, asks the pure rules, commits, then acts.

Commands that matter are rows written in the transaction of the state change (an envelope to publish, a
receipt owed), so a crash only replays rows.
"""
