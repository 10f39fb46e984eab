"""Group commit: what threads append at the same time shares one transaction, and its one fsync.

Who comes while nobody commits leads: takes what waits, commits it, and hands the lead to the first of
those who came meanwhile. A lone append commits at once. Who has just been answered is likely to come
again: after a group of many the next leader waits until as many are there, PATIENCE at most. Without
that the first to come back would pay a transaction for itself, every other time.
"""

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence, Sized
from typing import Any, Generic, TypeVar

from profiles.store import Acks

GATHERED = 1_000  # events a group; a larger batch is a group of its own
PATIENCE = 0.002  # seconds

Batch = TypeVar("Batch", bound=Sized)

_GROUPS: "weakref.WeakSet[GroupCommit[Any]]" = weakref.WeakSet()


class _Ticket(Generic[Batch]):
    """One batch, and a lock that opens when it is answered or when its caller is to lead."""

    __slots__ = ("answer", "batch", "leads", "turn")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.answer: Acks | BaseException | None = None
        self.leads = False
        self.turn = threading.Lock()
        self.turn.acquire()


class GroupCommit(Generic[Batch]):
    """Answers each batch as `commit` does for several, in the order they came.

    `commit` answers a batch that it refuses with an error, stores all the others, or raises. Where it
    raises one of `content_errors`, a batch is to blame and each is tried alone.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Batch]], Sequence[Acks | Exception]],
        content_errors: tuple[type[Exception], ...] = (ValueError, OverflowError),
    ) -> None:
        self._commit = commit
        self._content_errors = content_errors
        self._begin()
        _GROUPS.add(self)

    def _begin(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[_Ticket[Batch]] = deque()
        self._led = False
        self._expected = 1  # batches of the last group
        self._gathered = threading.Event()

    def append(self, batch: Batch) -> Acks:
        """Commit a batch together with those of other threads; raises what its transaction raised."""
        ticket = _Ticket(batch)
        with self._mutex:
            self._waiting.append(ticket)
            ticket.leads, self._led = not self._led, True
            if len(self._waiting) >= self._expected:
                self._gathered.set()
        if not ticket.leads:
            try:
                ticket.turn.acquire()
            except BaseException:  # Ctrl-C: the others must not wait for a leader that has gone
                self._leave(ticket)
                raise
        if ticket.leads:
            self._lead()
        answer = ticket.answer
        assert answer is not None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _lead(self) -> None:
        if len(self._waiting) < self._expected:
            self._gathered.wait(PATIENCE)
        with self._mutex:
            group = [self._waiting.popleft()]  # the leader's own
            size = len(group[0].batch)
            while self._waiting and size + len(self._waiting[0].batch) <= GATHERED:
                group.append(self._waiting.popleft())
                size += len(group[-1].batch)
            self._expected = len(group)
            self._gathered.clear()
        try:
            self._answer(group)
        except BaseException:  # Ctrl-C in the leader's thread
            for ticket in group[1:]:
                ticket.answer = ticket.answer or InterruptedError("the commit was interrupted: append again")
            raise
        finally:
            for ticket in group[1:]:
                ticket.turn.release()
            self._pass_on()

    def _answer(self, group: Sequence[_Ticket[Batch]]) -> None:
        try:
            answers: Sequence[Acks | BaseException] = self._commit([ticket.batch for ticket in group])
        except self._content_errors as error:
            answers = [error] if len(group) == 1 else [self._alone(ticket) for ticket in group]
        except Exception as error:
            answers = [error] * len(group)
        for ticket, answer in zip(group, answers, strict=True):
            ticket.answer = answer

    def _alone(self, ticket: _Ticket[Batch]) -> Acks | BaseException:
        try:
            return self._commit([ticket.batch])[0]
        except Exception as error:
            return error

    def _pass_on(self) -> None:
        with self._mutex:
            self._led = bool(self._waiting)
            if self._waiting:
                self._waiting[0].leads = True
                self._waiting[0].turn.release()

    def _leave(self, ticket: _Ticket[Batch]) -> None:
        with self._mutex:
            if ticket not in self._waiting:
                return  # it is being committed
            self._waiting.remove(ticket)
        if ticket.leads:
            self._pass_on()


def _forget() -> None:
    """In a child process: the threads that were waiting are not there."""
    for group in list(_GROUPS):
        group._begin()


os.register_at_fork(after_in_child=_forget)
