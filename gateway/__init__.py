"""Referral Gateway: referrals between agencies, sealed end to end, receipted at every step."""

__version__ = "0.1.0"
