"""USER_PROFILES and ITEM_PROFILES of a whole log, from its history, a partition of users at a time.

Every build computes all columns of all users, also of those who did nothing since the last: a day changes
every profile. Of these users stay counts and sums of all time, days, visits, habits, orders, touched and
last items, and entropies and mean price while the catalogue stays. There move

- with the moment: recencies and tenure, and where an event leaves a window everything of that window, trend
  and explore_share;
- with what others did: surprise, popularity_taste and popularity_spread, the spending band, top terms and
  the affinities, which are smoothed by the log's shares.

Of the simulated log's 95,096 users without events on its last day (10 million events, `benchmarks.profiles`)
the rows of all changed, in 47 of 111 columns. What stays is the cheap part: the passes that it alone needs
take .3 of the 4.1 CPU seconds of that day's build. The dearest pass, the decayed sums of values, serves
columns that move; kept, these sums would be more bytes than the profiles are, and hold only while no item
of the catalogue changes.

Three walks over the history, each on all threads: the first learns what columns compare with (the
context), the second computes every user's columns and adds up the items' totals, the third is over the
items alone.

Memory: two partitions of the history with what is computed on the way (about 300 bytes an event of
theirs), the items' counts (4 bytes an item, type and window), HELD bytes of columns and, at the end, a few
times CHUNK user profiles, about 1.5 kB each, while they are sorted.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl

from profiles import memory, threads
from profiles.features import FeaturesConfig, Lists, filled, loops
from profiles.features.attributes import cleaned, normalised, said
from profiles.features.context import NEVER, Context, attributes_of, band_edges, priced, since_of, with_shares
from profiles.features.history import History
from profiles.features.item_features import item_features
from profiles.features.ordering import gathered
from profiles.features.past import Events, Past
from profiles.features.terms import telling_terms, with_words, written_columns
from profiles.features.totals import Part, Totals
from profiles.features.user_features import user_features
from profiles.features.user_parts import Pages, UserPart, cut
from profiles.interactions import InteractionsConfig

CHUNK = 50_000  # users whose profiles are sorted at once
HELD = 2_000_000_000  # bytes of partitions' columns held until they are sorted; the rest is written beside


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
        with memory.kept(), ThreadPoolExecutor(threads.available()) as pool:
            users = pool.submit(self.users.sort, "user_id")
            context, renumbered, span = self._context(pool)
            audiences = {name: values for name, (values, _) in self._audiences.items()}
            totals = Totals(context, self.config, *span, audiences)
            held, parts = 0.0, list[UserPart]()
            columns = partial(self._partition, context=context, renumbered=renumbered, totals=totals)
            found = threads.ahead(pool, columns, range(self.history.partitions))
            for number, (seen, part) in enumerate(found):
                if seen is not None:
                    totals.add(seen)
                    if held + part.size > HELD:
                        part = part.beside(folder / f"part-{number:04}.arrow")
                    else:
                        held += part.size
                    parts.append(part)
                self.progress(1)
            items = pool.submit(_write_items, totals, folder)
            self._write_users(pool, context, folder, parts, users.result())
            items.result()
        return context

    def _context(self, pool: ThreadPoolExecutor) -> "tuple[Context, Renumbered, Span]":
        """Learn what columns compare with, how to number items and types as that does, and items' spans.

        Items and types that came after the moment are not in it.
        """
        items, types = self.history.item_ids, self.history.event_types
        n = len(items)
        nothing = np.zeros(n, np.int64), np.full(n, NEVER), np.full(n, np.nan)
        context = Context(self.as_of, items, types, *nothing, {}, np.zeros(0))
        events, weight, spend = np.zeros(n, np.int64), np.zeros(n), [np.zeros(0)]
        first, last = np.full(n, NEVER), np.full(n, -NEVER)
        kinds = np.zeros(len(types), np.int64)
        for found in pool.map(lambda number: self._glance(number, context), range(self.history.partitions)):
            events += found[0]["events"]
            weight += found[0]["weight"]
            np.minimum(first, found[0]["first"], out=first)
            np.maximum(last, found[0]["last"], out=last)
            spend.append(found[1])
            kinds += found[2]
        there = (events > 0) | items.is_in(self.items["item_id"].implode()).to_numpy()
        item, kind = _sorted(items, there), _sorted(pl.Series(types, dtype=pl.String), kinds > 0)
        items, events, weight = items.gather(item), events[item], weight[item]
        first, last = first[item], last[item]
        attributes = attributes_of(self.items, items, self.config)
        learnt = Context(
            as_of=self.as_of,
            item_ids=items,
            event_types=tuple(types[number] for number in kind),
            events=events,
            since=since_of(self.items, items, first),
            price=priced(self.items, items).fill_null(float("nan")).to_numpy(),
            attributes={name: with_shares(a, weight) for name, a in attributes.items()},
            bands=band_edges(np.concatenate(spend), self.config.price_bands),
            telling=telling_terms(self.texts),
        )
        return learnt, _renumbered(item, kind, n, len(types)), (first, last)

    def _glance(self, number: int, context: Context) -> tuple[np.ndarray, ...]:
        """Return each item's standing, what each user spent, and the events of each type."""
        events, alive = self.history.events(number).until(self.as_of)
        table = np.zeros(len(context.item_ids), loops.STANDING)
        table["first"], table["last"] = NEVER, -NEVER
        kinds, spend = np.zeros(len(context.event_types), np.int64), np.zeros(0)
        if alive.any():
            past = Past(events, self.as_of, context, self.config, self.interactions)
            loops.standing(events.item, events.kind, events.time, past.weight, table, kinds)
            spend = past.spending.sums[-1]
        return table, spend, kinds

    def _partition(
        self, number: int, context: Context, renumbered: "Renumbered", totals: Totals
    ) -> tuple[Part | None, UserPart]:
        """Return what one partition's users add to the items, None without any, and their columns."""
        events, alive = self.history.events(number).until(self.as_of)
        if not alive.any():
            return None, UserPart(pl.DataFrame(schema={"user_id": pl.String}))
        events = renumbered(events)
        user_ids = self.history.users(number)["user_id"].filter(pl.Series(alive))
        features = user_features(context, self.config)
        past = Past(events, self.as_of, context, self.config, self.interactions)
        columns = [feature.column(name, past, self._names) for name, feature in features.items()]
        part = UserPart(pl.DataFrame([user_ids.alias("user_id"), *columns]))
        return totals.part(events, past.tastes.first, past.visits.opens, self._codes(user_ids)), part

    @cached_property
    def _names(self) -> dict[str, pl.Series]:
        """What the codes of columns stand for, while users' columns are held and sorted."""
        return {}

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

    def _write_users(
        self,
        pool: ThreadPoolExecutor,
        context: Context,
        folder: Path,
        parts: Sequence[UserPart],
        users: pl.DataFrame,
    ) -> None:
        """Put the partitions and the users without events together, sorted by id.

        Of each partition it is known which rows have a run of ids: CHUNK users are in memory at once.
        """
        features = user_features(context, self.config)
        schema = {"user_id": pl.String(), **{name: f.dtype for name, f in features.items()}}
        schema |= {name: parts[0].frame.schema[name] for name in self._names}
        parts = [UserPart(pl.DataFrame(schema=schema)), *parts]
        active = pl.concat([part.ids for part in parts])
        silent = users.select("user_id").filter(~pl.col("user_id").is_in(active.implode()))
        texts = self.texts.sort("user_id", "timestamp", maintain_order=True)
        words = written_columns(texts, context.telling, self.config).sort("user_id")
        ids = pl.concat([active, silent["user_id"]]).sort()
        edges = ids.gather_every(CHUNK)[1:]

        pages = Pages()

        def chunk(found: tuple[tuple[pl.Series, ...], tuple[pl.DataFrame, ...]]) -> BytesIO:
            rows, (no_events, own_words, own_users) = found
            both = pl.concat([part.frame[own] for part, own in zip(parts, rows, strict=True)], rechunk=True)
            if len(no_events):
                both = pl.concat([both, no_events], how="diagonal")
            both = both.sort("user_id")
            both = both.with_columns(
                Lists.of(both[name], names).named.series().alias(name) for name, names in self._names.items()
            )
            both = both.with_columns(
                filled(both[name], f.fill) for name, f in features.items() if f.fill is not None
            )
            return pages.written(normalised(with_words(both, own_words), own_users, self.config))

        rows = zip(*(part.cut(edges) for part in parts), strict=True)
        others = zip(*(cut(frame, edges) for frame in (silent, words, users)), strict=True)
        chunks = threads.ahead(pool, chunk, zip(rows, others, strict=True))
        pages.join(chunks, folder / "user_profiles.arrow")


def _write_items(totals: Totals, folder: Path) -> None:
    features = item_features(totals)
    columns = [filled(f.column(name, totals), f.fill) for name, f in features.items()]
    frame = pl.DataFrame([totals.context.item_ids.alias("item_id"), *columns])
    frame.write_ipc(folder / "item_profiles.arrow")


Renumbered = Callable[[Events], Events]
Span = tuple[np.ndarray, np.ndarray]  # when each item's first and last event was


def _sorted(names: pl.Series, chosen: np.ndarray) -> np.ndarray:
    """Return the places of those chosen, in the order of the names."""
    at = np.flatnonzero(chosen)
    return np.asarray(at[names.gather(at).arg_sort().to_numpy()])


def _renumbered(items: np.ndarray, kinds: np.ndarray, all_items: int, all_kinds: int) -> Renumbered:
    """Return what numbers the items and types of events by where they stand among these."""
    if np.array_equal(items, np.arange(all_items)) and np.array_equal(kinds, np.arange(all_kinds)):
        return lambda events: events
    item = np.full(all_items + 1, -1, np.int32)  # the last is for no item
    item[items] = np.arange(len(items))
    kind = np.zeros(all_kinds, np.uint16)
    kind[kinds] = np.arange(len(kinds))
    return lambda events: replace(events, item=gathered(item, events.item), kind=gathered(kind, events.kind))
