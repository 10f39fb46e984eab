"""Why an item is in a list: the past choices that moved it most, or the words, or that many like it."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from nlp.explain import Explanation
from recsys.dataset import Queries
from serving.blend import WORDS, Blended
from serving.release import Release

EVENTS_NAMED = 2  # past items, or words, named for each recommended one
NAMED_FROM = 1 / 3  # of the strongest word's weight: others are not named
MATCHES = "matches your words"
Asked = Callable[[np.ndarray], list[dict[str, Any]]]  # of item rows what `matching` says


def reasons(
    release: Release, query: Queries, blended: Blended, asked: Asked | None = None
) -> list[list[dict[str, Any]]]:
    """Return the reasons of each item of one query's list, the source that added most first.

    {"kind": "because", "item_id", "title", "text", "source", "share"}: a past item and the share of the
    source's score it stands for (among the parts that raise it); {"kind": "query" | "text" | "popular"}.
    Of words asked with, `asked` says what each adds: "words" (word, start, end, weight), and "error", by how
    much these miss the whole.
    """
    rows = blended.ranked.rows[0][: int(blended.ranked.lengths[0])]
    past = {
        name: found
        for name in blended.sources
        if name in release.recommenders
        and (found := release.recommenders[name].influence(query, rows)) is not None
    }
    words = asked(rows) if asked is not None else [{"text": MATCHES}] * len(rows)
    return [_of_item(release, query, blended, place, past, words[place]) for place in range(len(rows))]


def words_of(text: str, explained: Explanation) -> list[dict[str, Any]]:
    """Return the words of an explained text in their order: word, start, end, weight."""
    return [{"word": text[span.start : span.end], **asdict(span)} for span in explained.spans]


def matching(text: str, explained: Explanation) -> dict[str, Any]:
    """Return what a reason says of the words of a text, those that raise the score named first."""
    least = max((span.weight for span in explained.spans), default=0.0) * NAMED_FROM
    raising = [span for span in sorted(explained.spans, key=lambda s: -s.weight) if span.weight > least > 0]
    named = ", ".join(dict.fromkeys(text[span.start : span.end] for span in raising[:EVENTS_NAMED]))
    says = f"{MATCHES}: {named}" if named else MATCHES
    return {"text": says, "words": words_of(text, explained), "error": explained.error}


def _of_item(
    release: Release,
    query: Queries,
    blended: Blended,
    place: int,
    past: dict[str, tuple[np.ndarray, np.ndarray]],
    words: dict[str, Any],
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    kinds: set[str] = set()
    for s in np.argsort(-blended.parts[0, place], kind="stable"):
        name = blended.sources[s]
        if blended.ranks[0, place, s] == 0:
            continue
        if name in past and "because" not in kinds:
            history, parts = past[name]
            because = _because(release, name, history, parts[:, place])
            found += because
            kinds |= {r["kind"] for r in because}
        elif name == WORDS and "query" not in kinds:
            found.append({"kind": "query", "source": name, **words})
            kinds.add("query")
        elif name in release.recommenders and release.recommenders[name].reads_text and "text" not in kinds:
            own = query.vectors is not None and not np.isnan(query.vectors[0]).any()
            says = "close to what you wrote and chose" if own else "described like what you chose"
            found.append({"kind": "text", "source": name, "text": says})
            kinds.add("text")
        elif _counts_everyone(release, name) and "popular" not in kinds:
            found.append({"kind": "popular", "source": name, "text": "popular with others"})
            kinds.add("popular")
    return found


def _because(release: Release, source: str, history: np.ndarray, parts: np.ndarray) -> list[dict[str, Any]]:
    """Name the past items that raise the score most."""
    raising = np.where(np.isfinite(parts) & (parts > 0), parts, 0.0)
    whole = raising.sum()
    if whole <= 0:
        return []
    titles, ids = release.catalogue.attributes["title"], release.catalogue.items.ids
    named = []
    for h in np.argsort(-raising, kind="stable")[:EVENTS_NAMED]:
        if raising[h] <= 0:
            break
        row = int(history[h])
        title = titles[row] or ids[row]
        named.append(
            {
                "kind": "because",
                "source": source,
                "item_id": ids[row],
                "title": title,
                "share": float(raising[h] / whole),
                "text": f"because of {title}",
            }
        )
    return named


def _counts_everyone(release: Release, source: str) -> bool:
    name = source.removeprefix("fallback:")
    return name in release.recommenders and not release.recommenders[name].reads_history
