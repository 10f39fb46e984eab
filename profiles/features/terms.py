"""What users write about: the terms of their own texts, decayed in time and weighed by how telling they are.

A term is a run of letters and digits of two or more, in small letters; of Chinese, Japanese and Korean
script, each pair of neighbouring characters of a run, and a lone one.
"""

from typing import Any

import numpy as np
import polars as pl

from profiles import engine
from profiles.features import VALUE_SHARES, FeaturesConfig, Lists, places
from profiles.schema import DAY

PAIRED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}ーｰ"  # the long-vowel marks belong to no script
RUN = f"[{PAIRED}]"
LETTER = rf"[\p{{Alphabetic}}\p{{N}}\p{{M}}--{RUN}]"
TERM = rf"{RUN}+|{LETTER}(?:{LETTER}|['’-])*{LETTER}"
TELLING = pl.Schema({"term": pl.String(), "telling": pl.Float64()})  # sorted by term


def written_terms(texts: pl.DataFrame) -> pl.DataFrame:
    """Return (user_id, timestamp, term), one row for each time a term was written, oldest first."""
    every = pl.col("text").str.to_lowercase().str.extract_all(TERM)
    found = texts.select("user_id", "timestamp", every.alias("term")).explode("term").drop_nulls("term")
    unspaced = found["term"].str.contains(f"^{RUN}")
    if unspaced.any():
        pairs = found.filter(unspaced).with_columns(_pairs(pl.col("term"))).explode("term")
        found = pl.concat([found.filter(~unspaced), pairs])
    return found.sort("user_id", "timestamp", maintain_order=True)


def _pairs(run: pl.Expr) -> pl.Expr:
    """Return the neighbouring pairs of a run of characters; a lone one is itself."""
    characters = run.str.extract_all(r".")
    pairs = characters.list.eval(pl.element() + pl.element().shift(-1)).list.drop_nulls()
    return pl.when(characters.list.len() > 1).then(pairs).otherwise(characters)


def telling_terms(texts: pl.DataFrame) -> pl.DataFrame:
    """Return TELLING: each term of two users or more, and how telling it is."""
    written = written_terms(texts)
    if not len(written):
        return pl.DataFrame(schema=TELLING)
    return engine.run("terms", {"written": written.select("user_id", "term")}).cast(TELLING)


def written_columns(texts: pl.DataFrame, telling: pl.DataFrame, config: FeaturesConfig) -> pl.DataFrame:
    """Return (user_id, last_text, top_terms) of those who wrote; texts are oldest first within a user."""
    last = texts.group_by("user_id", maintain_order=True).agg(pl.col("text").last().alias("last_text"))
    user_ids, lists = top_terms(texts, telling, config)
    terms = lists.series().cast(VALUE_SHARES)
    return with_words(last, pl.DataFrame({"user_id": user_ids, "top_terms": terms}))


def with_words(profiles: pl.DataFrame, words: pl.DataFrame) -> pl.DataFrame:
    """Join what `written_columns` says to profiles; who wrote nothing has no last text and no terms."""
    both = profiles.join(words, on="user_id", how="left", maintain_order="left")
    return both.with_columns(pl.col("top_terms").fill_null(pl.lit([], VALUE_SHARES)))


def written_by_one(texts: pl.DataFrame, telling: pl.DataFrame, config: FeaturesConfig) -> dict[str, Any]:
    """Return what `written_columns` says of the only user; none of the texts: nothing."""
    if not len(texts):
        return {"last_text": None, "top_terms": []}
    return {"last_text": texts["text"][-1], "top_terms": top_terms(texts, telling, config)[1].only()}


def top_terms(texts: pl.DataFrame, telling: pl.DataFrame, config: FeaturesConfig) -> tuple[pl.Series, Lists]:
    """Return users who wrote something telling, and each one's strongest terms as shares of all of those.

    A time a term was written counts half after `half_life_days`, from the user's newest telling term.
    Shares are ordered in single precision, equal ones by term.
    """
    written = written_terms(texts)
    row = places(written["term"], telling["term"])
    known = row >= 0
    row = row[known].astype(np.int64)
    if not len(row):
        return pl.Series(dtype=pl.String), Lists(np.zeros(1, np.int64), telling["term"][:0], np.zeros(0))
    user_id, time = written["user_id"].filter(known), written["timestamp"].cast(pl.Int64).to_numpy()[known]
    new = np.append(True, (user_id[1:] != user_id[:-1]).to_numpy())
    user, last = np.cumsum(new) - 1, np.append(np.flatnonzero(new)[1:], len(new)) - 1
    older = (time[last][user] - time) / (DAY * config.half_life_days)
    pair, place = np.unique(user * len(telling) + row, return_inverse=True)
    strength = np.bincount(place, telling["telling"].to_numpy()[row] * np.exp2(-older))
    user, row = np.divmod(pair, len(telling))
    share = strength / np.bincount(user, strength)[user]
    order = np.lexsort((row, -share.astype(np.float32), user))
    count = np.bincount(user)
    order = order[np.arange(len(order)) - (np.cumsum(count) - count)[user] < config.affinities]
    offsets = np.append(0, np.cumsum(np.minimum(count, config.affinities)))
    return user_id.filter(new), Lists(offsets, telling["term"][row[order]], share[order])
