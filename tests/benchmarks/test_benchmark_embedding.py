"""Texts to vectors: what is measured where a peer is not installed."""

import pytest

from benchmarks import embedding
from benchmarks.process import NotReached


def test_a_peer_that_is_not_installed_is_told() -> None:
    assert embedding.needed("math").sqrt(4) == 2
    with pytest.raises(NotReached, match="no-such-thing is not installed: pip install no-such-thing"):
        embedding.needed("no_such_thing")
