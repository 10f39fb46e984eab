"""What pydantic finds wrong with a configuration, as one line a place: what is wrong, what would be right."""

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from profiles.schema import ContractError
from serving.places import Place

Config = TypeVar("Config", bound=BaseModel)
Problem = tuple[Place, str]


def problems_of(
    error: ValidationError, raw: Any, model: type[BaseModel], prefix: Place = ()
) -> list[Problem]:
    """Turn what pydantic found into one line a place; what follows from a mistake inside is left out."""
    lines: dict[Place, list[str]] = {}
    for found in error.errors():
        location = (*prefix, *found["loc"])
        absent = location[-1:] if found["type"] == "missing" else ()
        place = (*_written(raw, location[: len(location) - len(absent)]), *absent)
        lines.setdefault(place, []).append(_explain(found, place, model, location))
    inner = [place for place in lines if not any(p != place and p[: len(place)] == place for p in lines)]
    return [(place, f"{_key(place)}: {'; or '.join(dict.fromkeys(lines[place]))}") for place in inner]


def _explain(found: Any, place: Place, model: type[BaseModel], location: Place) -> str:
    fields = _fields(model, location[:-1])
    if found["type"] == "extra_forbidden":
        return f"unknown key{nearest(str(place[-1]), list(fields))}"
    if found["type"] == "missing":
        return f"missing ({fields[str(location[-1])].description})"
    if found["type"] == "tuple_type" and place in (("events",), ("items",), ("users",)):
        return f"each source is a table of its own; write [[{place[0]}]]"
    return say(found)


def say(found: Any) -> str:
    """Return one finding of pydantic in the words of a configuration file."""
    message = found["msg"].removeprefix("Value error, ")
    message = f"{message[0].lower()}{message[1:]}"
    got = found.get("input")
    shown = "" if isinstance(got, dict | list | tuple) else f", not {got!r}"
    return message.replace("tuple", "list").replace("dictionary", "table") + shown


def chosen(command: str, config: Config, asked: Mapping[str, Any]) -> Config:
    """Return a section with what a command was asked for instead; raises ContractError for what cannot be."""
    try:
        return type(config).model_validate({**config.model_dump(), **asked})
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, found['loc']))}: {say(found)}" for found in error.errors()]
        raise ContractError(f"{command}: {'; '.join(wrong)}") from None


def _key(place: Place) -> str:
    return ".".join(part for part in place if isinstance(part, str))


def _written(raw: Any, location: Place) -> Place:
    """Return the parts of a location that stand in the file: pydantic names members of unions as well."""
    if not location:
        return ()
    head, rest = location[0], location[1:]
    skipped = _written(raw, rest)
    if not _reaches(raw, (head,)):
        return skipped
    taken = (head, *_written(raw[head], rest))
    return max(taken, skipped, key=lambda place: (place[-1:] == location[-1:], len(place)))


def _reaches(raw: Any, place: Place) -> bool:
    """Whether the file has this place."""
    for part in place:
        inside = part in raw if isinstance(raw, dict) else isinstance(raw, list) and part in range(len(raw))
        if not inside:
            return False
        raw = raw[part]
    return True


def _fields(model: type[BaseModel], location: Place) -> dict[str, FieldInfo]:
    """Return the fields at a place inside a model, those of all members where it is a union."""
    fields = dict(model.model_fields)
    for part in location:
        if part not in fields:
            continue
        inner = [a for a in _unfold(fields[str(part)].annotation) if isinstance(a, type)]
        models = [a for a in inner if issubclass(a, BaseModel)]
        if models:
            fields = {name: field for m in models for name, field in m.model_fields.items()}
    return fields


def _unfold(annotation: Any) -> list[Any]:
    arguments = getattr(annotation, "__args__", ())
    return [annotation] if not arguments else [a for b in arguments for a in _unfold(b)]


def nearest(name: str, allowed: list[str]) -> str:
    """Return what was probably meant, else what is allowed, as the end of a sentence."""
    near = difflib.get_close_matches(name, allowed, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(allowed)}"
