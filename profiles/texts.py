"""What names a text: the same words get the same hash on every machine, so a vector is made once."""

from hashlib import blake2b


def text_hash(text: str) -> str:
    """Return the BLAKE2b-128 of the text as 32 hexadecimal digits; a lone surrogate counts as "?"."""
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()
