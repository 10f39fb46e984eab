"""Recsys: from interactions to rankings."""
