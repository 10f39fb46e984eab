"""A file written in pieces holds what was written, and an error is one."""

from pathlib import Path

import numpy as np
import pytest

from profiles.pieces import PIECE, PieceFile


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, 3 * PIECE - 1])
def test_what_is_written_is_there(tmp_path: Path, size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    with PieceFile(tmp_path / "file", "w") as file:
        assert file.write(data) == size
        assert file.write(data.astype(np.int64)) == 8 * size  # bytes, not values
        assert file.tell() == 9 * size
    assert (tmp_path / "file").read_bytes() == data.tobytes() + data.astype(np.int64).tobytes()


def test_a_full_disk_is_an_error() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with PieceFile("/dev/full", "w") as file, pytest.raises(OSError, match="No space left"):
        file.write(bytes(3 * PIECE))
