"""Where the best of a search lies at the end of what was searched, so that better may lie beyond it."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from recsys.space import Choice, Range, Settings, Space, Value, put

NEAR = 0.05  # of a range, by ratios where it is searched so: as far from its end as this is at it
Takes = Callable[[str, Value], bool]  # whether a setting may have a value at all


@dataclass(frozen=True)
class Edge:
    """A setting whose best value is the last that was searched, though there are more."""

    setting: str
    value: Value
    end: str  # lower or upper
    searched: str
    wider: str  # as `Space.within` takes it

    def __str__(self) -> str:
        shown = f"{self.value:g}" if isinstance(self.value, float) else self.value
        return (
            f"{self.setting} = {shown} is the best, at the {self.end} end of {self.searched}; better may lie "
            f"beyond: widen it by --range {self.setting}={self.wider}"
        )


def edges(space: Space, best: Settings, takes: Takes) -> tuple[Edge, ...]:
    """Return the settings of the best trial that lie at an end which is none of the setting itself."""
    found = []
    for name, dimension in space.dimensions.items():
        at = ends(dimension, best[name])
        for end in at:
            allowed = (v for v in _beyond(dimension, end) if takes(name, v))
            if (further := next(allowed, None)) is not None:
                found.append(Edge(name, best[name], end, str(dimension), _wider(dimension, end, further)))
    return tuple(found)


def taken_by(config: BaseModel) -> Takes:
    """Return whether a configuration takes a value for one setting, the others as they are."""

    def takes(name: str, value: Value) -> bool:
        try:
            type(config).model_validate(put(config.model_dump(), {name: value}))
        except ValidationError:
            return False
        return True

    return takes


def ends(dimension: Range | Choice, value: Value) -> list[str]:
    """Return at which ends of a dimension a value lies; words, and a space of one point, have none."""
    if isinstance(dimension, Choice):
        numbers = _numbers(dimension.values)
        at = {"lower": min(numbers, default=None), "upper": max(numbers, default=None)}
        return [end for end, last in at.items() if len(numbers) > 1 and value == last and _number(value)]
    assert isinstance(value, int | float)
    if dimension.high <= dimension.low:
        return []
    if value <= dimension.low or value >= dimension.high:
        return ["lower" if value <= dimension.low else "upper"]
    low, high, here = (
        math.log(v) if dimension.log else float(v) for v in (dimension.low, dimension.high, value)
    )
    place = (here - low) / (high - low)
    return ["lower"] if place <= NEAR else ["upper"] if place >= 1 - NEAR else []


def _beyond(dimension: Range | Choice, end: str) -> Iterator[Value]:
    """Yield values past an end, the farthest first: ten times for ratios, half the range for differences."""
    if isinstance(dimension, Choice):
        numbers = _numbers(dimension.values)
        last = max(numbers) if end == "upper" else min(numbers)
        yield from (v for v in (2 * last if end == "upper" else _half(last),) if v not in numbers)
        return
    last = dimension.high if end == "upper" else dimension.low
    sign = 1 if end == "upper" else -1
    for share in (1.0, 0.5, 0.2, 0.1, 0.02):
        if dimension.log:
            value = last * 10 ** (sign * share)
        else:
            value = last + sign * share * (dimension.high - dimension.low) / 2
        value = round(value) if dimension.whole else float(f"{value:.3g}")
        if sign * (value - last) > 0:
            yield value
    if dimension.whole:
        yield int(last) + sign


def _wider(dimension: Range | Choice, end: str, further: Value) -> str:
    if isinstance(dimension, Choice):
        values = [*dimension.values, further] if end == "upper" else [further, *dimension.values]
        return ",".join("none" if v is None else f"{v:g}" for v in values if v is None or _number(v))
    low, high = (dimension.low, further) if end == "upper" else (further, dimension.high)
    return f"{low:g}:{high:g}"


def _half(value: int | float) -> int | float:
    return value // 2 if isinstance(value, int) else value / 2


def _number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(values: Iterable[Value]) -> list[int | float]:
    return [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
