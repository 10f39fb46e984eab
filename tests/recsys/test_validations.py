"""What weights and settings are chosen on: no truth of a test is in it, whatever the protocol."""

from datetime import timedelta

import polars as pl
import pytest
from pydantic import ValidationError

from profiles.schema import ITEMS, ContractError
from recsys.dataset import Catalogue
from recsys.split import PROTOCOLS, SplitConfig, splits, validations

KEY = ["user_id", "item_id"]


@pytest.fixture(scope="module")
def shop(log_of_module):
    """Return a log of sixty users who come one after the other, and its catalogue."""
    rows = [
        (f"u{u:02}", f"i{(3 * u + 7 * n) % 40:02}", 1 + 2 * u + n * (1 + u % 3) + u / 30, 1.0)
        for u in range(60)
        for n in range(12)
    ]
    log = log_of_module(rows)
    return log, Catalogue.of(ITEMS.empty(), log.select("item_id", "timestamp"), log["timestamp"].max())


@pytest.fixture(scope="module")
def log_of_module():
    """Return INTERACTIONS of (user, item, days, weight) rows."""
    from datetime import UTC, datetime

    from profiles.schema import INTERACTIONS, TIME

    def make(rows):
        start = datetime(2024, 1, 1, tzinfo=UTC)
        users, items, days, weights = zip(*rows, strict=True)
        times = pl.Series([start + timedelta(days=d) for d in days], dtype=TIME)
        frame = pl.DataFrame({"user_id": users, "item_id": items, "weight": weights, "event_type": "view"})
        return INTERACTIONS.conform(frame.with_columns(timestamp=times))

    return make


@pytest.mark.parametrize("by", ["time", "users"])
@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_no_truth_of_a_test_is_chosen_on(name, by, shop):
    config = SplitConfig(split=name, validation=by, origins=3, folds=3, quantile=0.7, every_days=5)
    if (name, by) == ("k_fold", "time"):
        with pytest.raises(ContractError, match='set validation = "users"'):
            validations(*shop, config)
        return
    tests, chosen = splits(*shop, config), validations(*shop, config)
    truth = pl.concat(test.truth.select(KEY) for test in tests)
    assert len(truth)
    assert any(len(split.truth) for split in chosen)
    for split in chosen:
        assert split.truth.join(truth, on=KEY).is_empty()
        if by == "time":
            assert split.train.join(truth, on=KEY).is_empty()
            assert split.histories.join(truth, on=KEY).is_empty()


def test_by_users_the_train_is_the_same_and_everybody_is_on_one_side_at_all_origins(shop):
    config = SplitConfig(split="rolling", origins=3, every_days=5, validation="users", validation_share=0.3)
    tests, chosen = splits(*shop, config), validations(*shop, config)
    sides = [{user for split in part for user in split.users} for part in (tests, chosen)]
    assert not sides[0] & sides[1]
    whole = splits(*shop, config.model_copy(update={"validation": "time"}))
    assert sides[0] | sides[1] == {user for split in whole for user in split.users}
    assert len(sides[1]) == round(0.3 * len(sides[0] | sides[1]))
    for test, choice, both in zip(tests, chosen, whole, strict=True):
        assert test.train.equals(choice.train)
        assert pl.concat([test.truth, choice.truth]).sort(KEY).equals(both.truth.sort(KEY))


@pytest.fixture
def files(shop, tmp_path):
    """Return a function that writes a temporal cut to files, with times or without, and says where."""

    def write(timed: bool = True) -> SplitConfig:
        (split,) = splits(*shop, SplitConfig())
        kept = ["user_id", "item_id", "weight", *(["timestamp"] if timed else [])]
        split.train.select(kept).write_parquet(tmp_path / "train.parquet")
        shop[0].filter(pl.col("timestamp") > split.at).select(kept).write_parquet(tmp_path / "truth.parquet")
        return SplitConfig(split="given", files={"train": "train.parquet", "truth": "truth.parquet"})

    return write


def test_files_are_named_in_the_configuration(files, shop, tmp_path):
    config = files()
    (found,) = splits(*shop, config, folder=tmp_path)
    (wanted,) = splits(*shop, SplitConfig())
    assert found.truth.equals(wanted.truth)
    assert found.at == wanted.at
    assert found.leaks is None
    chosen = validations(*shop, config, folder=tmp_path)
    again = validations(*shop, SplitConfig())
    assert [split.truth.rows() for split in chosen] == [split.truth.rows() for split in again]


def test_files_without_times_ask_when_all_items_are_there_and_are_validated_by_a_draw(files, shop, tmp_path):
    config = files(timed=False)
    (found,) = splits(*shop, config, folder=tmp_path)
    assert len(found.truth)
    assert found.counts["unavailable_pairs"] == 0
    assert found.leaks == "unknown: train.parquet has no times"
    (chosen,) = validations(*shop, config, folder=tmp_path)
    assert len(chosen.truth)
    assert chosen.truth.join(found.truth, on=KEY).is_empty()


def test_files_and_the_protocol_go_together():
    for wrong in ({"split": "given"}, {"files": {"train": "a.csv", "truth": "b.csv"}}):
        with pytest.raises(ValidationError, match=r'split = "given" and files = .* go together'):
            SplitConfig(**wrong)
    missing = SplitConfig(split="given", files={"train": "no.csv", "truth": "b.csv"})
    with pytest.raises(ContractError, match=r"no\.csv"):
        splits(pl.DataFrame(), None, missing)  # type: ignore[arg-type]


def test_one_train_serves_all_steps(shop):
    config = SplitConfig(target="successive", steps=3, quantile=0.8)
    found = splits(*shop, config)
    assert len(found) == 3
    assert len({split.as_of for split in found}) == 1
    assert len({split.at for split in found}) == 3
    (cold,) = splits(*shop, SplitConfig(split="cold_users", quantile=0.5))
    assert cold.train["timestamp"].max() <= cold.as_of < cold.at
