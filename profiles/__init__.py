"""Profiles: the behaviour log, and what it says about users and items."""
