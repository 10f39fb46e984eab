"""Writers take turns: a process that has just committed does not overtake those that wait."""

import time
from pathlib import Path
from typing import Any


def test_who_writes_without_pause_leaves_the_others_their_turn(crew: Any, tmp_path: Path) -> None:
    begin = time.time() + 2
    arguments = {"place": str(tmp_path / "store"), "begin": begin, "end": begin + 4}
    greedy, modest = tmp_path / "greedy", tmp_path / "modest"
    running = [
        crew.start("take_turns", diary=str(diary), held=held, pause=pause, **arguments)
        for diary, held, pause in [(greedy, 0.02, 0), (modest, 0.001, 0.005)] * 2
    ]
    for pid in running:
        crew.join(pid)
    shares = [[int(line) for line in diary.read_text().splitlines()] for diary in (greedy, modest)]
    assert [len(share) for share in shares] == [2, 2]
    assert min(shares[1]) > 0.4 * max(shares[0])
