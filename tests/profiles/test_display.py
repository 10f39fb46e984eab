"""Tables in which nothing is taken for markup, and the log's own chart."""

from datetime import UTC, datetime

import polars as pl
import pytest

from profiles.charts import activity
from profiles.display import Displayed, frame_table, said, table
from profiles.schema import EVENTS, ContractError

EVIL = "<script>alert('x')</script> & \"more\""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (True, "yes"), (12345, "12,345"), (0.123456, "0.1235"), ([1, None], "1, –"),
        (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "2026-01-02 03:04"), ("x", "x"),
    ],
)  # fmt: skip
def test_values_read_well(value, text):
    assert said(value) == text


def test_nothing_in_a_table_is_markup():
    found = table([EVIL, "b"], [[EVIL, EVIL], ["row", 3]], EVIL, ["b"], [(0, 1)])
    assert "<script" not in found
    assert found.count("&lt;script&gt;") == 4
    assert found.count('<th scope="col"') == 2
    assert found.count('<th scope="row"') == 2
    assert '<td class="hit"><strong>✓ ' in found
    assert '<td class="n">3</td>' in found


def test_a_long_frame_says_how_much_more_there_is():
    found = frame_table(pl.DataFrame({"name": ["x"] * 1025, "n": range(1025)}))
    assert found.count("<tr>") == 21
    assert "… and 1,005 more rows" in found


def test_what_shows_itself_shows_its_frame():
    class Shown(Displayed):
        def to_polars(self) -> pl.DataFrame:
            return pl.DataFrame({"a": [EVIL]})

    assert "<script" not in Shown()._repr_html_()
    assert Shown().to_pandas()["a"].tolist() == [EVIL]


def test_without_pandas_it_is_said_what_to_install(monkeypatch):
    def fail(self: pl.DataFrame) -> None:
        raise ModuleNotFoundError("pandas")

    class Shown(Displayed):
        def to_polars(self) -> pl.DataFrame:
            return pl.DataFrame({"a": [1]})

    monkeypatch.setattr(pl.DataFrame, "to_pandas", fail)
    with pytest.raises(ContractError, match=r"pip install 'attune\[notebooks\]'"):
        Shown().to_pandas()


@pytest.mark.parametrize(("days", "step"), [(30, 1), (900, 7)])
def test_the_log_is_drawn_by_day_or_by_week(days, step):
    start = datetime(2024, 1, 1, tzinfo=UTC)
    kinds = [f"type{n}" for n in range(9)]
    rows = [
        {"event_id": f"{n}", "user_id": "u", "event_type": kinds[min(n % 40, 8)], "day": n % days}
        for n in range(2000)
    ]
    when = pl.lit(start) + pl.duration(days="day")
    frame = EVENTS.conform(pl.DataFrame(rows).with_columns(timestamp=when).drop("day"))
    drawn = activity(frame).to_dict()["data"]["values"]
    assert sum(row["events"] for row in drawn) == 2000
    assert len({row["type"] for row in drawn}) == 7, "six types by name, the rest as one"
    assert len({row["day"] for row in drawn}) <= days / step + 1
    assert {row["type"] for row in drawn} > {"type8", "others"}
