"""What users say of themselves: cleaned strings, plain consents, and the same for who said nothing."""

from collections.abc import Callable
from datetime import date
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from profiles.features import FeaturesConfig
from profiles.features.attributes import normalised, said
from profiles.schema import ContractError

CONSENTS = FeaturesConfig(consents=("mail",))


def test_strings_are_cleaned_and_other_types_stay() -> None:
    users = pl.DataFrame(
        {
            "user_id": ["a", "b", "c", "d"],
            "town": ["  New \t\n York ", "", " \u00a0", None],
            "age": [1, None, 3, 4],
            "born": [date(1990, 1, 2), None, None, None],
            "likes": [["X "], [], None, ["y", None]],
            "valid_from": [None] * 4,
        }
    )
    found = said(users, FeaturesConfig())
    assert found.columns == [
        "user_id",
        "attribute_town",
        "attribute_age",
        "attribute_born",
        "attribute_likes",
    ]
    assert found["attribute_town"].to_list() == ["new york", None, None, None]
    for name in ("age", "born", "likes"):
        assert found[f"attribute_{name}"].to_list() == users[name].to_list()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["yes", " YES\n", "y", "True", "1", "on", "Granted"], True),
        (["no", "", "maybe", "2", "yes please", "off", None], False),
        ([True], True),
        ([False, None], False),
        ([1], True),
        ([0, 2, -1, None], False),
        ([1.0], True),  # how a number comes out of a file with gaps
        ([0.0, 0.5, float("nan"), None], False),
    ],
)
def test_a_consent_is_a_plain_yes_or_no(given: list[Any], expected: bool) -> None:
    users = pl.DataFrame({"user_id": [str(n) for n in range(len(given))], "mail": given})
    found = said(users, CONSENTS)
    assert found.columns == ["user_id", "consent_mail"]
    assert found["consent_mail"].to_list() == [expected] * len(given)


def test_who_has_no_row_has_said_nothing_and_order_stays() -> None:
    profiles = pl.DataFrame({"user_id": ["z", "nobody", "a"], "events": [1, 2, 3]})
    users = pl.DataFrame({"user_id": ["a", "z"], "town": [" A", "Z"], "mail": [None, "yes"]})
    expected = profiles.with_columns(
        attribute_town=pl.Series(["z", None, "a"]), consent_mail=pl.Series([True, False, False])
    )
    assert_frame_equal(normalised(profiles, users, CONSENTS), expected)
    none = normalised(profiles, users[:0], CONSENTS)
    assert none.schema == expected.schema
    assert none["consent_mail"].to_list() == [False] * 3
    bare = normalised(profiles, users[:0].select("user_id"), CONSENTS)  # a log without a catalogue
    assert bare["consent_mail"].to_list() == [False] * 3


@pytest.mark.parametrize("setting", ["consents", "audience"])
def test_an_attribute_nobody_has_is_named(setting: str) -> None:
    users = pl.DataFrame({"user_id": ["a"], "town": ["x"]})
    config = FeaturesConfig.model_validate({setting: ("mial",)})
    with pytest.raises(ContractError, match=r"\[profiles\] names the user attribute 'mial'.*they have town"):
        said(users, config)
    with pytest.raises(ContractError, match="they have none"):
        said(users.select("user_id"), config)


def test_the_batch_and_one_live_user_say_the_same(
    lopsided_world: Callable[..., Any], built_of: Callable[..., Any]
) -> None:
    found = built_of(lopsided_world(1))
    rows = {row["user_id"]: row for row in found.users.to_dicts()}
    names = ["attribute_town", "attribute_age", "consent_mail"]
    assert {tuple(rows[u][n] for n in names) for u in ("nul\0🎬 '", "early")} == {(None, None, False)}
    assert rows["nobody"]["attribute_age"] == 31
    assert rows["ünï"]["consent_mail"] is True
    for user, row in rows.items():
        live = found.live(user)
        assert {n: live[n] for n in names} == {n: row[n] for n in names}
        assert list(live)[-3:] == names
