"""Group commit against its promises: everybody is answered, in order, nobody waits for nothing."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from profiles.store import Acks, group_commit
from profiles.store.group_commit import GATHERED, GroupCommit


class Log:
    """Keeps what is committed; a commit takes a moment, as an fsync does."""

    def __init__(self, seconds: float = 0.002) -> None:
        self.groups: list[list[Sequence[Any]]] = []
        self.seconds = seconds

    def __call__(self, batches: Sequence[Sequence[Any]]) -> list[Acks | Exception]:
        time.sleep(self.seconds)
        if any("refused" in batch for batch in batches):
            raise ValueError("refused")
        self.groups.append(list(batches))
        done = sum(len(group) for group in self.groups)
        return [KeyError("odd") if "odd" in b else Acks(["accepted"] * len(b), done) for b in batches]


def test_alone_means_at_once() -> None:
    log = Log()
    group: GroupCommit[list[int]] = GroupCommit(log)
    for n in range(5):
        assert group.append([n]) == Acks(["accepted"], n + 1)
    assert log.groups == [[[n]] for n in range(5)]


def test_many_share_and_each_gets_its_own_answer() -> None:
    log = Log()
    group: GroupCommit[list[Any]] = GroupCommit(log)

    def send(worker: int) -> list[int]:
        marks = []
        for n in range(50):
            acks = group.append([(worker, n)] * (worker % 3 + 1))
            assert len(acks.statuses) == worker % 3 + 1
            marks.append(acks.watermark)
        assert marks == sorted(marks)
        return marks

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(send, range(16)))
    sent = [batch[0] for batches in log.groups for batch in batches]
    for worker in range(16):
        assert [n for w, n in sent if w == worker] == list(range(50))
    assert len(log.groups) < 400  # of 800 batches
    assert not group._waiting
    assert not group._led


def held_back(group: GroupCommit[Any], batches: Sequence[Any]) -> list[Any]:
    """Append batches from threads while the first is being committed; returns each answer or error."""
    log: Log = group._commit  # type: ignore[assignment]
    log.seconds = 0.2

    def send(batch: Any) -> Any:
        try:
            return group.append(batch)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(batches) + 1) as pool:
        first = pool.submit(send, ["first"])
        while not group._led:
            time.sleep(0.001)
        sent = []
        for n, batch in enumerate(batches):
            sent.append(pool.submit(send, batch))
            while len(group._waiting) <= n and not first.done():
                time.sleep(0.001)
        log.seconds = 0
        return [future.result() for future in sent]


def test_a_group_has_its_bounds() -> None:
    log = Log()
    small, half, large = ["s"], ["h"] * (GATHERED // 2), ["l"] * (3 * GATHERED)
    held_back(GroupCommit(log), [small, half, half, small, large, small])
    assert [[len(batch) for batch in batches] for batches in log.groups] == [
        [1],
        [1, GATHERED // 2],
        [GATHERED // 2, 1],
        [3 * GATHERED],
        [1],
    ]


def test_who_is_refused_is_refused_alone() -> None:
    log = Log()
    answers = held_back(GroupCommit(log), [["a"], ["refused"], ["odd"], ["b"]])
    assert [type(answer) for answer in answers] == [Acks, ValueError, KeyError, Acks]
    assert [batch for batches in log.groups for batch in batches] == [["first"], ["a"], ["odd"], ["b"]]


def test_an_error_that_is_nobodys_is_everybodys() -> None:
    log = Log()
    group = GroupCommit(log, content_errors=())
    answers = held_back(group, [["a"], ["refused"], ["b"]])
    assert [type(answer) for answer in answers] == [ValueError] * 3
    assert group.append(["later"]).statuses == ["accepted"]


def test_a_leader_that_is_interrupted_leaves_nobody_waiting() -> None:
    log = Log()

    class Interrupting(Log):
        def __call__(self, batches: Sequence[Sequence[Any]]) -> list[Acks | Exception]:
            if any("stop" in batch for batch in batches):
                raise KeyboardInterrupt
            return super().__call__(batches)

    log = Interrupting()
    group: GroupCommit[Any] = GroupCommit(log)
    done: list[Any] = []

    def send(batch: list[str]) -> None:
        try:
            done.append(group.append(batch))
        except BaseException as error:
            done.append(error)

    log.seconds = 0.2
    threads = [threading.Thread(target=send, args=([name],)) for name in ("first", "stop", "a", "b")]
    for n, thread in enumerate(threads):
        thread.start()
        while not group._led or len(group._waiting) < n:
            time.sleep(0.001)
    for thread in threads:
        thread.join(timeout=5)
        assert not thread.is_alive()
    kinds = sorted(type(answer).__name__ for answer in done)
    assert kinds == ["Acks", "InterruptedError", "InterruptedError", "KeyboardInterrupt"]
    assert group.append(["later"]).statuses == ["accepted"]


@pytest.mark.parametrize("leads", [False, True])
def test_who_gives_up_waiting_takes_nobody_along(leads: bool) -> None:
    log = Log()
    group: GroupCommit[Any] = GroupCommit(log)

    class Interrupted:
        """A lock whose owner is interrupted: while it waits, or just after it has been told to lead."""

        def __init__(self, lock: Any) -> None:
            self.lock = lock

        def acquire(self) -> None:
            if leads:
                self.lock.acquire()
            raise KeyboardInterrupt

        def release(self) -> None:
            self.lock.release()

    log.seconds = 0.2
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(group.append, ["first"])
        while not group._led or group._waiting:
            time.sleep(0.001)

        class Ticket(group_commit._Ticket[Any]):
            def __init__(self, batch: Any) -> None:
                super().__init__(batch)
                if batch == ["quits"]:
                    self.turn = Interrupted(self.turn)  # type: ignore[assignment]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(group_commit, "_Ticket", Ticket)
            quits = pool.submit(group.append, ["quits"])
            if leads:
                while not group._waiting:
                    time.sleep(0.001)
            other = pool.submit(group.append, ["other"])
            assert isinstance(quits.exception(timeout=5), KeyboardInterrupt)
            assert other.result(timeout=5).statuses == ["accepted"]
            assert first.result().statuses == ["accepted"]
    assert [batch for batches in log.groups for batch in batches] == [["first"], ["other"]]


def test_who_was_answered_together_is_waited_for() -> None:
    log = Log(0.001)
    group: GroupCommit[list[int]] = GroupCommit(log)

    def send(worker: int) -> None:
        for n in range(40):
            group.append([worker, n])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(8)))
    sizes = sorted(len(batches) for batches in log.groups)
    assert sizes[len(sizes) // 2] >= 6  # not one, then the seven who came meanwhile, in turns
    begun = time.perf_counter()
    group.append([0, 40])  # waits for the others once, and no longer than it may
    group.append([0, 41])
    assert time.perf_counter() - begun < 0.5
    assert group._expected == 1
