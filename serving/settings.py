"""attune.toml: read, checked and explained.

Every section is the frozen configuration that stands beside the code it steers; this file only puts
them together and turns what pydantic finds into lines a person can act on: file, line, what is wrong,
what would be right.
"""

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from nlp.encoder import EncoderConfig
from profiles.features import FeaturesConfig
from profiles.interactions import InteractionsConfig
from profiles.schema import ContractError
from profiles.sources import SourceConfig
from recsys.evaluation import EvaluationConfig
from recsys.models import RECOMMENDERS
from recsys.recommender import RecommenderConfig
from serving.blend import WORDS, BlendConfig
from serving.places import Place, places

Problem = tuple[Place, str]
NAME = re.compile(r"[a-z0-9_]+")
RESERVED = ("blend", WORDS)  # what tables and contributions call something else


class TextConfig(EncoderConfig):
    """What is done with the words of users and items."""

    enabled: bool = Field(True, description="whether texts become vectors")
    half_life_days: float = Field(90.0, gt=0, description="a user's text counts half after this many days")


class RecommendConfig(BaseModel):
    """The batch files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: PositiveInt = Field(20, le=500, description="items in each user's list")
    history_limit: PositiveInt = Field(5000, description="latest interactions of a user that are scored")


class ServeConfig(BaseSettings):
    """The API server. The environment overrides the file: ATTUNE_SERVE_PORT=9000."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="ATTUNE_SERVE_")

    host: str = Field("127.0.0.1", description="address to listen on; keep it on loopback without a proxy")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on")
    reload_seconds: float = Field(1.0, gt=0, description="how often a new active release is looked for")
    exposure_queue: PositiveInt = Field(10_000, description="answers waiting to be logged; more are lost")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


class SourceChoice(BaseModel):
    """One source of the blend: a recommender of the registry under a name, with its settings."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    type: str
    config: Any  # the RecommenderConfig subclass of that type

    def describe(self) -> dict[str, Any]:
        """Return what identifies the fit, as plain values."""
        config: RecommenderConfig = self.config
        return {"type": self.type, **config.model_dump()}


DEFAULT_RECOMMENDERS: dict[str, dict[str, Any]] = {
    "popularity": {},
    "recent": {"type": "popularity", "half_life_days": 7.0},
    "item_knn": {},
    "als": {},
    "ease": {},
    "content_text": {},
}


class Settings(BaseModel):
    """Everything attune.toml may say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    events: tuple[SourceConfig, ...] = Field(min_length=1, description="where behaviour comes from")
    items: tuple[SourceConfig, ...] = Field((), description="what can be recommended")
    users: tuple[SourceConfig, ...] = Field((), description="what is known of users")
    interactions: InteractionsConfig = InteractionsConfig()
    profiles: FeaturesConfig = FeaturesConfig()
    text: TextConfig = TextConfig()
    recommenders: dict[str, dict[str, Any]] = Field(
        default_factory=lambda: dict(DEFAULT_RECOMMENDERS), min_length=1, description="sources of the blend"
    )
    blend: BlendConfig = BlendConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    recommend: RecommendConfig = RecommendConfig()
    serve: ServeConfig = Field(default_factory=ServeConfig)

    def sources(self) -> dict[str, SourceChoice]:
        """Return the recommenders by name, each with its checked configuration."""
        return {name: choice(name, table) for name, table in self.recommenders.items()}


def choice(name: str, table: dict[str, Any]) -> SourceChoice:
    """Check one `[recommenders.<name>]` table; its `type` defaults to its name."""
    rest = dict(table)
    kind = rest.pop("type", name)
    if kind not in RECOMMENDERS:
        raise ContractError(f"no recommender is called {kind!r}{_nearest(str(kind), list(RECOMMENDERS))}")
    return SourceChoice(type=kind, config=RECOMMENDERS[kind].config_class.model_validate(rest))


def load(path: Path) -> Settings:
    """Read and check attune.toml; raises ContractError listing every problem with its line."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise ContractError(f"{path}: no such file; `attune init` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ContractError(f"{path}: not valid TOML: {error}") from None
    settings, problems = check(raw)
    if settings is None or problems:
        lines = places(text)
        listed = sorted((_line(lines, place), what) for place, what in problems)
        raise ContractError("\n".join(f"{path}, line {line}: {what}" for line, what in listed))
    return settings


def check(raw: dict[str, Any]) -> tuple[Settings | None, list[Problem]]:
    """Check what a configuration says; returns the settings and every problem with its place.

    Raises ContractError for what the environment says.
    """
    try:
        ServeConfig()
    except ValidationError as error:
        wrong = [
            f"environment variable ATTUNE_SERVE_{str(e['loc'][0]).upper()}: {_say(e)}" for e in error.errors()
        ]
        raise ContractError("\n".join(wrong)) from None
    problems: list[Problem] = []
    tables = raw.get("recommenders")
    for name, table in tables.items() if isinstance(tables, dict) else ():
        place: Place = ("recommenders", name)
        if not NAME.fullmatch(name) or name in RESERVED:
            why = "its name becomes a folder's; use small letters, digits and _"
            problems.append(
                (place, f"a source cannot be called {name!r}: {why}, but not {' or '.join(RESERVED)}")
            )
        try:
            if not isinstance(table, dict):
                raise ContractError(f"[recommenders.{name}] is a table of settings, not {table!r}")
            choice(name, table)
        except ValidationError as error:
            kind = RECOMMENDERS[table.get("type", name)].config_class
            problems += _problems(error, raw, kind, place)
        except ContractError as error:
            problems.append(((*place, "type"), str(error)))
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        known = [place[:2] for place, _ in problems]
        return None, problems + [p for p in _problems(error, raw, Settings) if p[0][:2] not in known]
    return (None, problems) if problems else (settings, _contradictions(settings))


def _contradictions(settings: Settings) -> list[Problem]:
    """What no single field can know: names that point to another section, names given twice."""
    found: list[Problem] = []
    names = list(settings.recommenders)
    if settings.blend.fallback not in names:
        found.append(
            (
                ("blend", "fallback"),
                f"fallback = {settings.blend.fallback!r} is no source"
                f"{_nearest(settings.blend.fallback, names)}; or add a table [recommenders.…] of that name",
            )
        )
    if isinstance(settings.blend.weights, dict):
        found += [
            (("blend", "weights", name), f"weight for {name!r}, which is no source{_nearest(name, names)}")
            for name in settings.blend.weights
            if name not in names
        ]
    sections = {"events": settings.events, "items": settings.items, "users": settings.users}
    for kind, sources in sections.items():
        labels = [source.label for source in sources]
        found += [
            (
                (kind, number),
                f"[[{kind}]] {label!r} is there twice; the name is part of event ids and of messages: "
                "give each its own name = …",
            )
            for number, label in enumerate(labels)
            if label in labels[:number]
        ]
    reference = settings.evaluation.reference
    if reference is not None and Path(reference).stem in [*names, "blend"]:
        what = f"reference = {reference!r} would be shown as {Path(reference).stem!r}, which is a source"
        found.append((("evaluation", "reference"), f"{what}; rename the file"))
    return found


def _problems(error: ValidationError, raw: Any, model: type[BaseModel], prefix: Place = ()) -> list[Problem]:
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
        return f"unknown key{_nearest(str(place[-1]), list(fields))}"
    if found["type"] == "missing":
        return f"missing ({fields[str(location[-1])].description})"
    if found["type"] == "tuple_type" and place in (("events",), ("items",), ("users",)):
        return f"each source is a table of its own; write [[{place[0]}]]"
    return _say(found)


def _say(found: Any) -> str:
    message = found["msg"].removeprefix("Value error, ")
    message = f"{message[0].lower()}{message[1:]}"
    got = found.get("input")
    shown = "" if isinstance(got, dict | list | tuple) else f", not {got!r}"
    return message.replace("tuple", "list").replace("dictionary", "table") + shown


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


def _nearest(name: str, allowed: list[str]) -> str:
    near = difflib.get_close_matches(name, allowed, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(allowed)}"


def _line(lines: dict[Place, int], place: Place) -> int:
    """Return the line of a place, or of the nearest thing around it."""
    return next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), 1)
