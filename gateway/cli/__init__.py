"""Every command a person types. No logic: each command calls one thing and prints what came of it.

Exit codes: 0 done; 1 the answer is no (refused, not verified, lost); 2 wrong usage or settings;
3 could not be reached or is not ready, worth trying again; 4 a fault of ours, one JSON line says where.
"""
