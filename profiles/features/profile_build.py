"""USER_PROFILES and ITEM_PROFILES of a whole log, from its history, a partition of users at a time.

Three walks over the history, each on all threads: the first learns what columns compare with (the
context), the second computes every user's columns and adds up the items' totals, the third is over the
items alone. Users are taken in blocks of about BLOCK events, which stay in the processor's cache.

Memory: two partitions of the history with what is computed on the way (about 300 bytes an event of
theirs), the items' counts (4 bytes an item, type and window) and, at the end, the user profiles
themselves, about 1.5 kB a user, while they are sorted.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from profiles import threads
from profiles.features import FeaturesConfig, filled
from profiles.features.attributes import cleaned, normalised, said
from profiles.features.context import NEVER, Context, attributes_of, band_edges, priced, since_of, with_shares
from profiles.features.history import History
from profiles.features.item_features import item_features
from profiles.features.past import Events, Past
from profiles.features.terms import telling_terms, with_words, written_columns
from profiles.features.totals import Part, Totals
from profiles.features.user_features import user_features
from profiles.interactions import InteractionsConfig

BLOCK = 150_000  # events


@dataclass(frozen=True)
class ProfileBuild:
    """A history and a catalogue, to be turned into profiles as of a moment (microseconds since 1970).

    The history's items include the catalogue's.
    """

    history: History
    items: pl.DataFrame
    users: pl.DataFrame
    texts: pl.DataFrame  # user_id, text, timestamp: what users wrote up to the moment, in the log's order
    as_of: int
    config: FeaturesConfig
    interactions: InteractionsConfig
    progress: Callable[[int], None] = lambda _: None  # told one for each partition

    def run(self, folder: Path) -> Context:
        """Write user_profiles.arrow and item_profiles.arrow; returns what they were compared with."""
        with ThreadPoolExecutor(threads.available()) as pool:
            context, renumbered = self._context(pool)
            totals = Totals(context, self.config, {name: v for name, (v, _) in self._audiences.items()})
            written = []
            for part, path in pool.map(
                lambda n: self._partition(n, context, renumbered, totals, folder),
                range(self.history.partitions),
            ):
                if part is not None:
                    totals.add(part)
                    written.append(path)
                self.progress(1)
        self._write_users(context, folder, written)
        features = item_features(totals)
        columns = [filled(f.column(name, totals), f.fill) for name, f in features.items()]
        frame = pl.DataFrame([context.item_ids.alias("item_id"), *columns])
        frame.write_ipc(folder / "item_profiles.arrow")
        return context

    def _blocks(self, events: Events) -> Iterator[tuple[int, int]]:
        """Yield runs of users with about BLOCK events."""
        starts = events.starts
        first = 0
        while first < len(starts):
            last = max(first + 1, int(np.searchsorted(starts, starts[first] + BLOCK)))
            yield first, last
            first = last

    def _context(self, pool: ThreadPoolExecutor) -> "tuple[Context, Renumbered]":
        """Learn what columns compare with, and how to number items and types as that does.

        Items and types that came after the moment are not in it.
        """
        items, types = self.history.item_ids, self.history.event_types
        n = len(items)
        nothing = np.zeros(n, np.int64), np.full(n, NEVER), np.full(n, np.nan)
        context = Context(self.as_of, items, types, *nothing, {}, np.zeros(0))
        events, weight, first, spend = np.zeros(n, np.int64), np.zeros(n), np.full(n, NEVER), [np.zeros(0)]
        kinds = np.zeros(len(types), np.int64)
        for found in pool.map(lambda number: self._glance(number, context), range(self.history.partitions)):
            events += found[0]
            weight += found[1]
            np.minimum(first, found[2], out=first)
            spend.append(found[3])
            kinds += found[4]
        there = (events > 0) | items.is_in(self.items["item_id"].implode()).to_numpy()
        events, weight, first, items = events[there], weight[there], first[there], items.filter(there)
        attributes = attributes_of(self.items, items, self.config)
        learnt = Context(
            as_of=self.as_of,
            item_ids=items,
            event_types=tuple(np.array(types, object)[kinds > 0]),
            events=events,
            since=since_of(self.items, items, first),
            price=priced(self.items, items).fill_null(float("nan")).to_numpy(),
            attributes={name: with_shares(a, weight) for name, a in attributes.items()},
            bands=band_edges(np.concatenate(spend), self.config.price_bands),
            telling=telling_terms(self.texts),
        )
        return learnt, _renumbered(there, kinds > 0)

    def _glance(self, number: int, context: Context) -> tuple[np.ndarray, ...]:
        """Return events, weight and first moment of each item, what each user spent, events of each type."""
        events, alive = self.history.events(number).until(self.as_of)
        n, types = len(context.item_ids), len(context.event_types)
        first = np.full(n, NEVER)
        if not alive.any():
            return np.zeros(n, np.int64), np.zeros(n), first, np.zeros(0), np.zeros(types, np.int64)
        past = Past(events, self.as_of, context, self.config, self.interactions)
        at = np.flatnonzero(past.named)
        item = events.item[at]
        np.minimum.at(first, item, events.time[at])
        return (
            np.bincount(item, minlength=n),
            np.bincount(item, past.weight[at], n),
            first,
            past.sum(past.spent),
            np.bincount(events.kind, minlength=types),
        )

    def _partition(
        self, number: int, context: Context, renumbered: "Renumbered", totals: Totals, folder: Path
    ) -> tuple[Part | None, Path]:
        """Write the columns of one partition's users; returns what they add to the items."""
        path = folder / f"part-{number:04}.arrow"
        events, alive = self.history.events(number).until(self.as_of)
        if not alive.any():
            return None, path
        events = renumbered(events)
        user_ids = self.history.users(number)["user_id"].filter(pl.Series(alive))
        features = user_features(context, self.config)
        blocks: list[pl.DataFrame] = []
        touches = []
        for first, last in self._blocks(events):
            past = Past(events.users(first, last), self.as_of, context, self.config, self.interactions)
            columns = [feature.column(name, past) for name, feature in features.items()]
            blocks.append(pl.DataFrame([user_ids[first:last].alias("user_id"), *columns]))
            touches.append(past.touches)
        pl.concat(blocks).write_ipc(path)
        whole = Past(events, self.as_of, context, self.config, self.interactions)
        whole.__dict__["touches"] = tuple(np.concatenate(flags) for flags in zip(*touches, strict=True))
        return totals.part(whole, self._codes(user_ids)), path

    @cached_property
    def _audiences(self) -> dict[str, tuple[pl.Series, pl.DataFrame]]:
        """Values of each audience attribute, sorted, and each user's code."""
        said(self.users, self.config)  # refuses what users do not have
        found = {}
        for name in self.config.audience:
            value = cleaned(self.users, name) if len(self.users) else pl.lit(None)
            known = self.users.select("user_id", value.cast(pl.String).alias("value")).drop_nulls()
            values = known["value"].unique().sort()
            codes = known["value"].cast(pl.Enum(values)).to_physical().cast(pl.Int64)
            found[name] = (values, pl.DataFrame({"user_id": known["user_id"], "code": codes}))
        return found

    def _codes(self, user_ids: pl.Series) -> dict[str, np.ndarray]:
        ids = user_ids.alias("user_id").to_frame()
        return {
            name: ids.join(codes, on="user_id", how="left", maintain_order="left")["code"]
            .fill_null(-1)
            .to_numpy()
            for name, (_, codes) in self._audiences.items()
        }

    def _write_users(self, context: Context, folder: Path, parts: list[Path]) -> None:
        """Put the partitions and the users without events together, sorted by id, and drop the parts."""
        features = user_features(context, self.config)
        schema = pl.Schema({"user_id": pl.String(), **{name: f.dtype for name, f in features.items()}})
        active = pl.concat([pl.DataFrame(schema=schema), *(pl.read_ipc(path) for path in parts)])
        silent = self.users.select("user_id").join(active.select("user_id"), on="user_id", how="anti")
        both = pl.concat([active, silent], how="diagonal").sort("user_id")
        both = both.with_columns(
            filled(both[name], f.fill) for name, f in features.items() if f.fill is not None
        )
        texts = self.texts.sort("user_id", "timestamp", maintain_order=True)
        both = with_words(both, written_columns(texts, context.telling, self.config))
        both = normalised(both, self.users, self.config)
        both.write_ipc(folder / "user_profiles.arrow")
        for path in parts:
            path.unlink()


Renumbered = Callable[[Events], Events]


def _renumbered(items: np.ndarray, kinds: np.ndarray) -> Renumbered:
    """Return what numbers the items and types of events as if there were only these."""
    if items.all() and kinds.all():
        return lambda events: events
    item = np.append(np.cumsum(items) - 1, -1).astype(np.int32)  # the last is for no item
    kind = (np.cumsum(kinds) - 1).astype(np.uint16)
    return lambda events: replace(events, item=item[events.item], kind=kind[events.kind])
