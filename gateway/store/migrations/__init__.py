"""Numbered SQL scripts, run in order; never edited once released."""
