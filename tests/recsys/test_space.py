"""Spaces as they are declared: every recommender has one, or says why not, and every point of it is valid."""

from typing import Annotated, Literal

import numpy as np
import pytest
from pydantic import BaseModel, Field, PositiveInt

from profiles.schema import ContractError
from recsys.models import RECOMMENDERS
from recsys.space import Choice, Range, Space, Tuned, at, put, settable

every = pytest.mark.parametrize("name", sorted(RECOMMENDERS))


class Config(BaseModel):
    rate: Annotated[float, Tuned(0.01, 100, log=True)] = Field(1.0, gt=0)
    size: Annotated[PositiveInt | None, Tuned(2, 8)] = 4
    kind: Annotated[Literal["a", "b"], Tuned()] = "a"
    whether: Annotated[bool, Tuned()] = False
    days: Annotated[float | None, Tuned(among=(None, 7.0))] = None
    other: int = 3


SPACE = Space.of(Config)


def points(space: Space, count: int) -> list[dict]:
    """Return the corners of a space, and points drawn evenly."""
    random = np.random.default_rng(0)
    corners = [
        {n: d.values[at] if isinstance(d, Choice) else d.steps(2)[at] for n, d in space.dimensions.items()}
        for at in (0, -1)
    ]
    drawn = [
        {n: (values := d.steps(9))[random.integers(len(values))] for n, d in space.dimensions.items()}
        for _ in range(count)
    ]
    return corners + drawn


@every
def test_every_recommender_has_a_space_or_says_why_not(name):
    kind = RECOMMENDERS[name]
    assert bool(Space.of(kind.config_class)) != bool(kind.untuned)


@every
def test_every_point_of_a_space_is_a_valid_configuration(name):
    space = Space.of(RECOMMENDERS[name].config_class)
    for point in points(space, 100):
        config = RECOMMENDERS[name].config_class(**point).model_dump()
        assert {n: config[n] for n in point} == point


@every
def test_defaults_lie_within_their_space(name):
    space = Space.of(RECOMMENDERS[name].config_class)
    assert space.holding(RECOMMENDERS[name].config_class().model_dump()) == space


def test_a_space_is_read_from_the_fields():
    assert SPACE.dimensions == {
        "rate": Range(0.01, 100, True, False),
        "size": Range(2, 8, False, True),
        "kind": Choice(("a", "b")),
        "whether": Choice((False, True)),
        "days": Choice((None, 7.0)),
    }
    assert SPACE.size == np.inf
    assert SPACE.without(["rate"]).size == 7 * 2 * 2 * 2
    assert SPACE.describe()["rate"] == "0.01 … 100 by ratios"
    assert SPACE.describe()["days"] == "none, 7.0"


def test_what_is_not_read_is_not_searched():
    class Reads(Config):
        rank: Annotated[int, Tuned(1, 9, where={"kind": ("b",), "whether": (True,)})] = 2

    for kind, whether in (("a", True), ("b", True), ("b", False)):
        given = Reads(kind=kind, whether=whether).model_dump()
        assert ("rank" in Space.of(Reads, given).dimensions) == (kind == "b" and whether)
    assert list(Space.of(Reads).dimensions) == [*SPACE.dimensions, "rank"]


def test_a_grid_holds_the_ends_and_each_point_once():
    grid = SPACE.only(["rate", "size", "kind"]).grid(3)
    assert sorted({p["rate"] for p in grid}) == pytest.approx([0.01, 1, 100])
    assert sorted({p["size"] for p in grid}) == [2, 5, 8]
    assert len(grid) == 3 * 3 * 2 == len({tuple(p.items()) for p in grid})
    assert Range(1, 3, True, True).steps(50) == [1, 2, 3]


def test_a_space_is_widened_by_what_it_is_to_hold():
    wide = SPACE.holding({"rate": 500.0, "days": 3.0, "other": 9})
    assert wide.dimensions["rate"] == Range(0.01, 500.0, True, False)
    assert wide.dimensions["days"] == Choice((None, 7.0, 3.0))
    assert SPACE.holding({"rate": 0.0}).dimensions["rate"] == Range(0.0, 100, False, False)


def test_a_range_that_somebody_wrote():
    assert SPACE.within("rate", "0.5:1e3").dimensions["rate"] == Range(0.5, 1000, True, False)
    assert SPACE.within("size", "1:64").dimensions["size"] == Range(1, 64, False, True)
    assert SPACE.within("days", "none, 3.5,14").dimensions["days"] == Choice((None, 3.5, 14))
    assert SPACE.within("kind", "b").dimensions["kind"] == Choice(("b",))
    assert SPACE.within("whether", "true").dimensions["whether"] == Choice((True,))
    assert list(SPACE.within("size", "1:2").dimensions) == list(SPACE.dimensions)
    for told, wrong in (("1:x", "LOW:HIGH of numbers"), ("3:1", "0 < LOW < HIGH"), ("0:1", "0 < LOW < HIGH")):
        with pytest.raises(ContractError, match=f"rate: {wrong}.*not '{told}'"):
            SPACE.within("rate", told)
    with pytest.raises(ContractError, match="size: LOW:HIGH of whole numbers"):
        SPACE.within("size", "1.5:3")
    with pytest.raises(ContractError, match="'other' is not searched"):
        SPACE.within("other", "1:2")


def test_names_that_are_not_searched_are_refused():
    with pytest.raises(ContractError, match="'other' is not searched; known are rate, size"):
        SPACE.only(["other"])


class Inner(BaseModel):
    depth: Annotated[int, Tuned(1, 4)] = 2
    name: str = "n"


class Outer(BaseModel):
    kind: Literal["a", "b"] = "a"
    share: float | None = 0.5
    whole: PositiveInt = 3
    inner: Inner = Inner()
    other: Annotated[float, Tuned(0, 1, where={"inner.name": ("m",)})] = 0.1


def test_settings_inside_others_are_reached_by_their_path():
    fields = settable(Outer)
    assert list(fields) == ["kind", "share", "whole", "inner.depth", "inner.name", "other"]
    assert list(Space.of(Outer).dimensions) == ["inner.depth", "other"]
    given = Outer().model_dump()
    assert list(Space.of(Outer, given).dimensions) == ["inner.depth"]
    assert list(Space.of(Outer, put(given, {"inner.name": "m"})).dimensions) == ["inner.depth", "other"]
    assert at(given, "inner.depth") == 2
    changed = put(given, {"inner.depth": 3, "kind": "b"})
    assert Outer.model_validate(changed) == Outer(kind="b", inner=Inner(depth=3))
    assert given == Outer().model_dump()  # as it was


def test_what_has_no_range_is_searched_where_one_is_named():
    fields, space = settable(Outer), Space.of(Outer, Outer().model_dump())
    assert space.within("whole", "2:9", fields).dimensions["whole"] == Range(2, 9, False, True)
    assert space.within("share", "0:0.5", fields).dimensions["share"] == Range(0, 0.5, False, False)
    assert space.within("inner.name", "n,m", fields).dimensions["inner.name"] == Choice(("n", "m"))
    assert space.within("inner.depth", "1:9", fields).dimensions["inner.depth"] == Range(1, 9, False, True)
    for unread in ("other", "inner.width", "inner"):  # the first has a range, and is not read
        with pytest.raises(ContractError, match=f"'{unread}' is not searched; known are inner.depth"):
            space.within(unread, "1:2", fields)
