"""What of a configuration is searched, read from the declarations beside the hyperparameters themselves.

    l2: Annotated[PositiveFloat, Tuned(1, 10_000, log=True)] = Field(500.0, description="ridge penalty")
    weighting: Annotated[Literal["none", "bm25"], Tuned()] = Field("none", description="of the cells")

Type, bounds, default, meaning and range stand in one place; what has no `Tuned` is never searched. It knows
no recommender: any pydantic configuration has a space.
"""

import itertools
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from profiles.schema import ContractError

Value = bool | int | float | str | None
Settings = Mapping[str, Value]


@dataclass(frozen=True)
class Tuned:
    """Marks a hyperparameter that is worth a search: from `low` to `high`, or `among` some values.

    With neither, the values are those of its Literal, or yes and no.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False  # equal ratios weigh alike, not equal differences
    among: tuple[Value, ...] = ()
    # Values of other settings under which it is read at all, as {"method": ("frozen", "tfidf")}.
    where: Mapping[str, tuple[Value, ...]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Range:
    """All numbers between two, both included; `whole`: integers only."""

    low: float
    high: float
    log: bool
    whole: bool

    @property
    def size(self) -> float:
        """How many values there are."""
        return self.high - self.low + 1 if self.whole else math.inf if self.high > self.low else 1

    def holding(self, value: Value) -> "Range":
        """Return the smallest range that holds this one and a value."""
        assert isinstance(value, int | float)
        log = self.log and value > 0
        return Range(min(self.low, value), max(self.high, value), log, self.whole)

    def steps(self, count: int) -> list[Value]:
        """Return about `count` values, evenly apart, the ends among them."""
        low, high = (math.log(v) if self.log else v for v in (self.low, self.high))
        inner = [low + (high - low) * n / max(count - 1, 1) for n in range(count)]
        inner[-1] = high
        values = [math.exp(v) if self.log else v for v in inner]
        values = [min(max(v, self.low), self.high) for v in values]
        return list(dict.fromkeys(round(v) if self.whole else v for v in values))

    def __str__(self) -> str:
        return f"{self.low:g} … {self.high:g}{' by ratios' if self.log else ''}"


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Value, ...]

    @property
    def size(self) -> float:
        """How many values there are."""
        return len(self.values)

    def holding(self, value: Value) -> "Choice":
        """Return these values and one more."""
        return self if value in self.values else Choice((*self.values, value))

    def steps(self, count: int) -> list[Value]:
        """Return all values."""
        return list(self.values)

    def __str__(self) -> str:
        return ", ".join("none" if v is None else str(v) for v in self.values)


@dataclass(frozen=True)
class Space:
    """Hyperparameters by name, each with where it is searched."""

    dimensions: Mapping[str, Range | Choice]

    @classmethod
    def of(cls, config: type[BaseModel], given: Mapping[str, Any] | None = None) -> Self:
        """Read the fields of a configuration that are marked `Tuned`, in their order.

        With settings `given`, only those that are read under them.
        """
        fields = settable(config)
        marks = {name: found for name, field in fields.items() if (found := _mark(field))}
        if given is not None:
            marks = {n: m for n, m in marks.items() if all(at(given, o) in v for o, v in m.where.items())}
        return cls({name: _dimension(name, m, fields[name]) for name, m in marks.items()})

    def __bool__(self) -> bool:
        return bool(self.dimensions)

    @property
    def size(self) -> float:
        """How many points there are."""
        return math.prod(d.size for d in self.dimensions.values())

    def only(self, names: Collection[str]) -> "Space":
        """Return the part of some names; raises ContractError for one that is not searched."""
        if unknown := [name for name in names if name not in self.dimensions]:
            raise ContractError(f"{unknown[0]!r} is not searched; known are {', '.join(self.dimensions)}")
        return Space({name: d for name, d in self.dimensions.items() if name in names})

    def without(self, names: Iterable[str]) -> "Space":
        """Return the part of all other names."""
        left_out = set(names)
        return Space({name: d for name, d in self.dimensions.items() if name not in left_out})

    def within(self, name: str, told: str, further: Mapping[str, FieldInfo] | None = None) -> "Space":
        """Return the space with one setting searched elsewhere: from `0.1:1000`, or among `16,32,none`.

        A field in `further` that is not marked `Tuned` is searched only so. Raises ContractError for a name
        that is not searched, and for what is neither.
        """
        field = (further or {}).get(name)
        if name not in self.dimensions and field is not None and _mark(field) is None:
            known: Range | Choice = Range(0, 0, False, _whole(field.annotation))
        else:
            (known,) = self.only([name]).dimensions.values()
        return Space({**self.dimensions, name: _told(name, told, known)})

    def holding(self, settings: Settings) -> "Space":
        """Return the smallest space that holds this one and a point, of which others' names do not count."""
        return Space({n: d.holding(settings[n]) if n in settings else d for n, d in self.dimensions.items()})

    def grid(self, steps: int) -> list[dict[str, Value]]:
        """Return all points of `steps` values of each range and all values of each choice."""
        axes = [d.steps(steps) for d in self.dimensions.values()]
        return [dict(zip(self.dimensions, point, strict=True)) for point in itertools.product(*axes)]

    def describe(self) -> dict[str, str]:
        """Say in words where each is searched."""
        return {name: str(dimension) for name, dimension in self.dimensions.items()}


def settable(config: type[BaseModel], before: str = "") -> dict[str, FieldInfo]:
    """Return the fields of a configuration by name, those of one inside another as `outer.inner`."""
    found: dict[str, FieldInfo] = {}
    for name, told in config.model_fields.items():
        inner = told.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= settable(inner, f"{before}{name}.")
        else:
            found[before + name] = told
    return found


def at(tree: Mapping[str, Any], name: str) -> Any:
    """Return the setting of a name, `outer.inner` inside `outer`."""
    found: Any = tree
    for part in name.split("."):
        found = found[part]
    return found


def put(tree: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return a tree of settings with some changed, `outer.inner` inside `outer`."""
    changed = dict(tree)
    for name, value in settings.items():
        outer, _, inner = name.partition(".")
        changed[outer] = put(changed.get(outer) or {}, {inner: value}) if inner else value
    return changed


def _mark(field: FieldInfo) -> Tuned | None:
    return next((mark for mark in reversed(field.metadata) if isinstance(mark, Tuned)), None)


def _dimension(name: str, mark: Tuned, field: FieldInfo) -> Range | Choice:
    if mark.low is not None and mark.high is not None:
        return Range(mark.low, mark.high, mark.log, _whole(field.annotation))
    values = mark.among or _values(field.annotation)
    if not values:
        raise TypeError(f"{name}: Tuned needs low and high, or values, for {field.annotation}")
    return Choice(values)


def _told(name: str, told: str, known: Range | Choice) -> Range | Choice:
    """Return where a setting is searched by what somebody wrote; a range keeps its kind."""
    low, parted, high = told.partition(":")
    if not parted:
        return Choice(tuple(_read(word.strip()) for word in told.split(",")))
    log, whole = (known.log, known.whole) if isinstance(known, Range) else (False, False)
    try:
        first, last = (int(v) if whole else float(v) for v in (low, high))
    except ValueError:
        kind = "whole numbers" if whole else "numbers"
        raise ContractError(f"{name}: LOW:HIGH of {kind}, or values as A,B,C, not {told!r}") from None
    if not first < last or (log and first <= 0):
        above = "0 < LOW < HIGH" if log else "LOW < HIGH"
        raise ContractError(f"{name}: {above} is needed, not {told!r}")
    return Range(first, last, log, whole)


def _read(word: str) -> Value:
    """Return what a word says: none, yes or no, a number, or itself."""
    known: dict[str, Value] = {"none": None, "true": True, "false": False}
    if word in known:
        return known[word]
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def _whole(annotation: Any) -> bool:
    return annotation is int or any(_whole(inner) for inner in get_args(annotation))


def _values(annotation: Any) -> tuple[Value, ...]:
    if annotation is bool:
        return (False, True)
    return get_args(annotation) if get_origin(annotation) is Literal else ()
