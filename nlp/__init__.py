"""Nlp: from text to vectors and labels."""
