"""Predicted labels beside a snapshot: against sums by hand, as of its moment, each text classified once."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from nlp.classifier_config import ClassifierConfig
from nlp.classify import Classifier, train
from nlp.embed import EmbeddingCache
from nlp.labelling import Labelling, LabelsConfig, derive
from profiles import manifest
from profiles.schema import EVENTS, ContractError
from profiles.snapshot import Snapshot
from profiles.store.sqlite import SQLiteStore

START = datetime(2024, 1, 1, tzinfo=UTC)
HALF_LIFE = 10.0
LEARNED = {"cash": ["pay my bill", "the bill is wrong", "pay by card"], "trip": ["fly to rome", "a flight"]}
LEARNED |= {"zoo": ["the lion sleeps", "a lion"]}
ITEMS_SAY = {"i3": "a lion", "i1": "the bill", "i2": None, "i4": "ничего"}
WRITTEN = [  # user, days, text; lopsided: most of it about one thing, the newest about another
    ("ute", 1, "pay the bill"),
    ("ute", 2, "wrong card"),
    ("bob", 2, "a flight"),
    ("ann", 3, "ничего"),
    ("eve", 4, None),
    ("ute", 5, "pay the bill"),
    ("ute", 11, "fly to rome"),
    ("bob", 30, "the lion"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of three topics."""
    made = tmp_path_factory.mktemp("classifiers") / "topics"
    texts = [text for said in LEARNED.values() for text in said]
    labels = [label for label, said in LEARNED.items() for _ in said]
    train(texts, labels, ClassifierConfig(method="tfidf", penalty=0.1), made)
    return made


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that a classifier was asked of."""
    texts: list[str] = []
    heard = Classifier.heard

    def listen(self: Classifier, said: Sequence[str]) -> Any:
        texts.extend(said)
        return heard(self, said)

    monkeypatch.setattr(Classifier, "heard", listen)
    return texts


def labelling(folder: Path, **settings: Any) -> Labelling:
    told = {"name": "topic", "classifier": "topics", "half_life_days": HALF_LIFE, "keep": 2}
    return Labelling.of(LabelsConfig(**told | settings), folder)


def rows(place: Path, kind: str) -> dict[str, dict[str, Any]]:
    frame = pl.read_parquet(place / f"{kind}_profiles.parquet")
    assert frame.columns == [f"{kind}_id", "topic", "topic_probability", "topic_shares"]
    assert frame[f"{kind}_id"].to_list() == sorted(frame[f"{kind}_id"])
    return {row.pop(f"{kind}_id"): row for row in frame.iter_rows(named=True)}


def by_hand(classifier: Classifier, user: str, at_days: float) -> np.ndarray:
    """The decayed mean of the probabilities of what a user wrote by then."""
    said = [(days, text) for who, days, text in WRITTEN if who == user and text and days <= at_days]
    weights = np.array([0.5 ** ((at_days - days) / HALF_LIFE) for days, _ in said])
    found = np.concatenate([classifier.predict([text]) for _, text in said]).astype(np.float64)
    return weights @ found / weights.sum()


def matches(row: dict[str, Any], expected: np.ndarray, labels: Sequence[str]) -> None:
    order = np.argsort(-expected)[:2]
    assert row["topic"] == labels[order[0]]
    assert row["topic_probability"] == pytest.approx(expected[order[0]], abs=1e-6)
    assert [share["value"] for share in row["topic_shares"]] == [labels[n] for n in order]
    assert [share["share"] for share in row["topic_shares"]] == pytest.approx(expected[order], abs=1e-6)


NOTHING = {"topic": None, "topic_probability": None, "topic_shares": []}


def test_users_and_items_have_their_labels(
    snapshot: Snapshot, folder: Path, cache: EmbeddingCache, root: Path
) -> None:
    found = labelling(folder)
    place = derive(snapshot, found, cache, root)
    classifier = found.classifier
    users, items = rows(place, "user"), rows(place, "item")
    assert list(users) == ["ann", "bob", "ute"]  # eve wrote nothing
    assert users["ann"] == NOTHING  # not a word of hers is known
    for name in ("bob", "ute"):
        matches(users[name], by_hand(classifier, name, 30), found.labels)
    assert users["ute"]["topic"] == "cash"
    assert users["bob"]["topic"] == "zoo"
    assert list(items) == ["i1", "i3", "i4"]  # i2 says nothing
    assert items["i4"] == NOTHING
    for name in ("i1", "i3"):
        matches(items[name], classifier.predict([ITEMS_SAY[name] or ""])[0], found.labels)


def test_only_what_was_written_by_then_counts(
    store: SQLiteStore,
    snapshot_of: Callable[..., Snapshot],
    folder: Path,
    cache: EmbeddingCache,
    root: Path,
    asked: list[str],
) -> None:
    found = labelling(folder)
    users = rows(derive(snapshot_of(store, 5), found, cache, root), "user")
    assert "the lion" not in asked  # not even read
    assert "fly to rome" not in asked
    assert users["bob"]["topic"] == "trip"  # the lion comes later
    matches(users["ute"], by_hand(found.classifier, "ute", 5), found.labels)


def test_each_text_is_classified_once_by_each_classifier(
    store: SQLiteStore,
    snapshot_of: Callable[..., Snapshot],
    folder: Path,
    cache: EmbeddingCache,
    root: Path,
    asked: list[str],
    tmp_path: Path,
) -> None:
    first = snapshot_of(store)
    place = derive(first, labelling(folder), cache, root)
    distinct = {text for _, _, text in WRITTEN if text} | {text for text in ITEMS_SAY.values() if text}
    assert sorted(asked) == sorted(distinct)
    assert derive(first, labelling(folder), cache, root) == place
    slower = derive(first, labelling(folder, half_life_days=99), cache, root)
    assert rows(slower, "user")["ute"] != rows(place, "user")["ute"]
    row = {
        "event_id": "new",
        "user_id": "eve",
        "item_id": "i1",
        "event_type": "ask",
        "text": "a lion, a lion",
    }
    store.append(EVENTS.conform(pl.DataFrame([row | {"timestamp": START + timedelta(days=31)}])))
    again = derive(snapshot_of(store), labelling(folder), cache, root)
    assert asked[len(distinct) :] == ["a lion, a lion"]
    assert rows(again, "user")["eve"]["topic"] == "zoo"

    told = [text for said in LEARNED.values() for text in said]
    other = train(told, ["x"] * 4 + ["y"] * 3, ClassifierConfig(method="tfidf"), tmp_path / "other")
    del asked[:]
    renamed = derive(first, labelling(tmp_path / "other"), cache, root)
    assert sorted(asked) == sorted(distinct)
    assert manifest.verify(renamed)["classifier"] == other.about["seal"]


def test_the_manifest_names_snapshot_and_classifier(
    snapshot: Snapshot, folder: Path, cache: EmbeddingCache, root: Path
) -> None:
    found = labelling(folder, of="items")
    place = derive(snapshot, found, cache, root)
    about = manifest.verify(place)
    assert about["classifier"] == manifest.read(folder)["seal"]
    assert (about["snapshot"], about["texts"], about["silent"]) == (snapshot.name, 3, 1)
    assert set(about["files"]) == {"item_profiles.parquet"}
    assert Labelling.again(about, folder) == found


def test_one_user_gets_what_all_get_and_the_texts_behind_it(
    snapshot: Snapshot, folder: Path, cache: EmbeddingCache, root: Path
) -> None:
    found = labelling(folder)
    users = rows(derive(snapshot, found, cache, root), "user")
    events = snapshot.frame("events").sort("timestamp")
    for name in ("ann", "bob", "eve", "ute"):
        own = events.filter(user_id=name)
        assert found.of_one(own, snapshot.as_of, cache) == users.get(name, NOTHING)
    spoke = found.behind(events.filter(user_id="ute"), cache)["text"].to_list()
    assert spoke[:2] == ["pay the bill", "pay the bill"]
    assert "fly to rome" not in spoke
    assert found.behind(events.filter(user_id="eve"), cache).is_empty()
    assert found.behind(events.filter(user_id="ann"), cache).is_empty()


def test_a_text_that_may_have_no_label_gets_none_below_the_threshold(
    snapshot: Snapshot, cache: EmbeddingCache, root: Path, tmp_path: Path
) -> None:
    texts = [text for said in LEARNED.values() for text in said]
    labels = [[label] if label != "zoo" else [] for label, said in LEARNED.items() for _ in said]
    made = train(texts, labels, ClassifierConfig(method="tfidf", many=True, penalty=0.1), tmp_path / "made")
    place = derive(snapshot, labelling(tmp_path / "made", keep=9), cache, root)
    items = rows(place, "item")
    assert items["i1"]["topic"] == "cash"
    lion = made.predict(["a lion"])[0]
    assert lion.max() < 0.5
    assert (items["i3"]["topic"], items["i3"]["topic_probability"]) == (None, None)
    assert [share["share"] for share in items["i3"]["topic_shares"]] == sorted(lion.tolist(), reverse=True)


def test_bad_classifiers_and_names_are_refused(
    snapshot: Snapshot,
    folder: Path,
    cache: EmbeddingCache,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ContractError, match=r"no manifest\.json"):
        labelling(tmp_path / "nowhere")
    with pytest.raises(ContractError, match="not a classifier of this version"):
        labelling(snapshot.folder)
    with pytest.raises(ContractError, match="user profiles have a column 'active_days' already"):
        derive(snapshot, labelling(folder, name="active_days"), cache, root)
    told = ["сколько стоит", "где мой заказ"]
    train(told, ["a", "b"], ClassifierConfig(method="tfidf"), tmp_path / "foreign")
    with monkeypatch.context() as patched:
        patched.setattr("nlp.labelling.ENOUGH", 8)
        with pytest.raises(ContractError, match="knows the words of 0 of 8 texts: it learned from another l"):
            derive(snapshot, labelling(tmp_path / "foreign"), cache, root)
    assert not list(root.glob("*/labels-*"))
    few = rows(derive(snapshot, labelling(tmp_path / "foreign"), cache, root), "user")
    assert few == dict.fromkeys(["ann", "bob", "ute"], NOTHING)  # too few texts to tell a language by
    found = labelling(folder)
    other = Labelling(found.config, tmp_path / "foreign", found.seal, found.labels, found.floor)
    with pytest.raises(ContractError, match="not the classifier that the profiles were made with"):
        derive(snapshot, other, EmbeddingCache(tmp_path / "empty.sqlite"), root)
