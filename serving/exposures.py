"""Exposures are logged beside the answers: a bounded queue, one writing thread, losses counted."""

import queue
import threading

import polars as pl

from profiles.store import EventStore

BATCH = 200  # answers committed at once


class ExposureLog:
    """Takes what was shown without making the answer wait; what the queue cannot hold is `lost`."""

    def __init__(self, store: EventStore, size: int) -> None:
        self.store = store
        self.lost = 0
        self._waiting: queue.Queue[pl.DataFrame | None] = queue.Queue(size)
        self._thread = threading.Thread(target=self._write, name="exposures", daemon=True)
        self._thread.start()

    def offer(self, exposures: pl.DataFrame) -> None:
        """Queue one answer's EXPOSURES, or count them lost."""
        try:
            self._waiting.put_nowait(exposures)
        except queue.Full:
            self.lost += len(exposures)

    def _write(self) -> None:
        done = False
        while not done:
            frames = [self._waiting.get()]
            while len(frames) < BATCH and not self._waiting.empty():
                frames.append(self._waiting.get_nowait())
            done = any(frame is None for frame in frames)
            rows = [frame for frame in frames if frame is not None]
            try:
                if rows:
                    self.store.append_exposures(pl.concat(rows))
            except Exception:  # a full disk must not end the thread: the next batch may fit
                self.lost += sum(len(frame) for frame in rows)
            for _ in frames:
                self._waiting.task_done()

    def flush(self) -> None:
        """Wait until everything offered so far is committed or lost."""
        self._waiting.join()

    def close(self) -> None:
        """Commit what waits and stop."""
        self._waiting.put(None)
        self._thread.join()
