"""A best setting at the end of its range is told, unless nothing lies beyond; and what to search instead."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from recsys.edges import edges, taken_by
from recsys.models import RECOMMENDERS
from recsys.space import Space, Tuned


class Config(BaseModel):
    l2: Annotated[PositiveFloat, Tuned(1, 1000, log=True)] = 10.0
    power: Annotated[NonNegativeFloat, Tuned(0, 1)] = 0.5
    share: Annotated[float, Tuned(0, 0.9)] = Field(0.5, ge=0, lt=1)
    window: Annotated[PositiveInt, Tuned(1, 100, log=True)] = 5
    order: Annotated[PositiveInt, Tuned(2, 10)] = 5
    factors: Annotated[PositiveInt, Tuned(among=(16, 32, 64))] = 32
    heat: Annotated[PositiveFloat | None, Tuned(among=(None, 0.1, 0.4))] = None
    mixup: Annotated[NonNegativeFloat, Tuned(among=(0.0, 0.2))] = 0.0
    kind: Annotated[Literal["a", "b"], Tuned()] = "a"
    whether: Annotated[bool, Tuned()] = False


SPACE = Space.of(Config)
MIDDLE = Config().model_dump()


def told(**best) -> dict[str, tuple[str, str]]:
    found = edges(SPACE, {**MIDDLE, **best}, taken_by(Config()))
    return {edge.setting: (edge.end, edge.wider) for edge in found}


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("l2", 1.0, ("lower", "0.1:1000")),
        ("l2", 1000.0, ("upper", "1:10000")),
        ("l2", 850.0, ("upper", "1:10000")),  # as near as the twentieth part of the ratios
        ("l2", 700.0, None),
        ("l2", 5000.0, ("upper", "1:10000")),  # that of now, which was tried though it lies outside
        ("power", 0.0, None),  # there is nothing below
        ("power", 1.0, ("upper", "0:1.5")),
        ("power", 0.94, None),
        ("share", 0.9, ("upper", "0:0.99")),  # half a range on would be too much
        ("window", 1, None),
        ("window", 100, ("upper", "1:1000")),
        ("window", 2, None),
        ("order", 2, ("lower", "1:10")),
        ("order", 10, ("upper", "2:14")),
        ("order", 9, None),
        ("factors", 16, ("lower", "8,16,32,64")),
        ("factors", 64, ("upper", "16,32,64,128")),
        ("heat", 0.4, ("upper", "none,0.1,0.4,0.8")),
        ("heat", 0.1, ("lower", "0.05,none,0.1,0.4")),
        ("heat", None, None),
        ("mixup", 0.0, None),
        ("mixup", 0.2, ("upper", "0,0.2,0.4")),
        ("kind", "b", None),
        ("whether", True, None),
    ],
)
def test_ends(setting, value, expected):
    assert told(**{setting: value}).get(setting) == expected


def test_what_is_proposed_can_be_searched_and_holds_the_best_inside():
    for name, kind in RECOMMENDERS.items():
        space, config = Space.of(kind.config_class), kind.config_class()
        for end in (0, -1):
            best = {n: d.steps(2)[end] for n, d in space.dimensions.items()}
            for edge in edges(space, best, taken_by(config)):
                wider = space.within(edge.setting, edge.wider)
                for value in wider.dimensions[edge.setting].steps(2):
                    assert taken_by(config)(edge.setting, value), (name, edge)
                assert wider.holding(best) == wider
                again = edges(wider.only([edge.setting]), best, taken_by(config))
                assert not again, (name, edge, again)


def test_the_middle_is_no_edge_and_words_say_what_to_do():
    assert not told()
    (edge,) = edges(SPACE.only(["l2"]), {"l2": 990.0}, taken_by(Config()))
    assert str(edge) == (
        "l2 = 990 is the best, at the upper end of 1 … 1000 by ratios; better may lie beyond: "
        "widen it by --range l2=1:10000"
    )
