"""Serving: from rankings to answers."""
