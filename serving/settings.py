"""attune.toml: read, checked and explained.

Every section is the frozen configuration that stands beside the code it steers; this file only puts
them together and turns what pydantic finds into lines a person can act on: file, line, what is wrong,
what would be right.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from nlp.cross_encoder import CrossEncoderConfig
from nlp.encoder import EncoderConfig
from nlp.finetune import FinetuneConfig
from nlp.labelling import LabelsConfig
from nlp.pairs import PairsConfig
from nlp.pretrain import PretrainConfig
from nlp.rerank import RerankConfig
from nlp.retrieval import By, RetrievalConfig
from profiles.features import FeaturesConfig
from profiles.interactions import InteractionsConfig
from profiles.schema import ContractError
from profiles.sources import SourceConfig
from profiles.sources.limits import Limits
from profiles.sources.presets import expand
from profiles.sources.privacy import PrivacyConfig
from recsys.evaluation import EvaluationConfig
from recsys.exploration import ExplorationConfig
from recsys.models import RECOMMENDERS
from recsys.recommender import RecommenderConfig
from recsys.tuning import TuningConfig
from recsys.validation import Accuracy
from recsys.vectors import VectorsConfig
from recsys.watch import EVERY
from serving.blend import WORDS, BlendConfig
from serving.mistakes import Problem, nearest, problems_of, say
from serving.places import Place, line_of, places

NAME = re.compile(r"[a-z0-9_]+")
# What tables and commands call something else.
RESERVED = ("blend", WORDS, "finetune", "pretrain", "classify")


class TextConfig(EncoderConfig):
    """What is done with the words of users and items."""

    enabled: bool = Field(True, description="whether texts become vectors")
    half_life_days: float = Field(90.0, gt=0, description="a user's text counts half after this many days")
    reviews: bool = Field(
        False,
        description="whether what users wrote of an item, up to then, is part of what recommenders read",
    )


class ReaderConfig(CrossEncoderConfig):
    """Which cross-encoder puts the first places of a search in order, and how it reads."""

    model: str | None = Field(
        None, min_length=1, description="folder that `attune rerank` wrote, ${VAR} expanded; null: none reads"
    )


class SearchConfig(RetrievalConfig):
    """How `attune search` finds what answers a text."""

    by: By = Field("both", description="words (BM25), vectors of [text], or both, fused")
    reader: ReaderConfig = Field(ReaderConfig(), description="who reads the first places again")


class TrainConfig(BaseModel):
    """How the released models come about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    warm: bool = Field(
        False,
        description="whether `attune train` updates the models of the release before, its weights kept, "
        "where nothing but the log has changed; after an erasure everything is fitted anew",
    )
    checkpoint_seconds: float = Field(
        EVERY,
        ge=0,
        description="how often a training, of an encoder too, is kept: killed, it goes on from there",
    )


class TuneConfig(TuningConfig):
    """How `attune tune` searches settings."""

    metric: Accuracy = Field("ndcg", description="what is to be large, a mean over users of the validation")
    k: PositiveInt = Field(10, description="list length it is measured at")


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


class DatasetConfig(BaseModel):
    """A well-known public data set, `[[dataset]]`: `attune presets` lists them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str = Field(description="name of the preset")
    path: str = Field(description="folder of the data set's original files; ${VAR} is expanded", min_length=1)


class StoreConfig(BaseModel):
    """Where the log is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str | None = Field(
        None,
        description="postgresql://user@host/database with ${VAR} expanded; none: a SQLite file",
    )


class Settings(BaseModel):
    """Everything attune.toml may say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: tuple[DatasetConfig, ...] = Field((), description="public data sets whose files are read")
    events: tuple[SourceConfig, ...] = Field(min_length=1, description="where behaviour comes from")
    items: tuple[SourceConfig, ...] = Field((), description="what can be recommended")
    users: tuple[SourceConfig, ...] = Field((), description="what is known of users")
    vectors: tuple[VectorsConfig, ...] = Field((), description="vectors of items: images, audio, anything")
    labels: tuple[LabelsConfig, ...] = Field((), description="classifiers that fill profile columns")
    store: StoreConfig = StoreConfig()
    limits: Limits = Limits()
    privacy: PrivacyConfig = PrivacyConfig()
    interactions: InteractionsConfig = InteractionsConfig()
    profiles: FeaturesConfig = FeaturesConfig()
    text: TextConfig = TextConfig()
    pairs: PairsConfig = PairsConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    pretrain: PretrainConfig = PretrainConfig()
    rerank: RerankConfig = RerankConfig()
    search: SearchConfig = SearchConfig()
    recommenders: dict[str, dict[str, Any]] = Field(
        default_factory=lambda: dict(DEFAULT_RECOMMENDERS), min_length=1, description="sources of the blend"
    )
    blend: BlendConfig = BlendConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    train: TrainConfig = TrainConfig()
    tune: TuneConfig = TuneConfig()
    recommend: RecommendConfig = RecommendConfig()
    explore: ExplorationConfig = ExplorationConfig()
    serve: ServeConfig = Field(default_factory=ServeConfig)

    def sources(self) -> dict[str, SourceChoice]:
        """Return the recommenders by name, each with its checked configuration."""
        return {name: choice(name, table) for name, table in self.recommenders.items()}


def choice(name: str, table: dict[str, Any]) -> SourceChoice:
    """Check one `[recommenders.<name>]` table; its `type` defaults to its name."""
    rest = dict(table)
    kind = rest.pop("type", name)
    if kind not in RECOMMENDERS:
        raise ContractError(f"no recommender is called {kind!r}{nearest(str(kind), list(RECOMMENDERS))}")
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
    expanded = _with_datasets(raw, path)
    settings, problems = check(expanded)
    if settings is None or problems:
        lines = places(text)
        listed = sorted((line_of(lines, place), what) for place, what in problems)
        raise ContractError("\n".join(f"{path}, line {line}: {what}" for line, what in listed))
    return settings


def _with_datasets(raw: dict[str, Any], path: Path) -> dict[str, Any]:
    """Add what `[[dataset]]` tables stand for; what the file itself says of a section wins."""
    tables = raw.get("dataset", [])
    if not isinstance(tables, list):
        return raw
    whole = dict(raw)
    for number, table in enumerate(tables):
        try:
            named = DatasetConfig.model_validate(table)
            found = expand(named.preset, named.path, path.resolve().parent)
        except ValidationError:
            continue  # told by `check`, with the line
        except ContractError as error:
            raise ContractError(f"{where(path, ('dataset', number))}{error}") from None
        for name, said in found.items():
            if isinstance(said, list):
                label = f"{named.preset}-" if len(tables) > 1 else ""
                named_apart = [source | {"name": label + source["name"]} for source in said]
                whole[name] = [*named_apart, *whole.get(name, [])]
            else:
                whole[name] = said | whole.get(name, {})
    return whole


def where(config: Path | None, place: Place) -> str:
    """Return "FILE, line N: " for a place in a configuration; nothing where there is no file to name."""
    if config is None or not config.is_file():
        return ""
    return f"{config}, line {line_of(places(config.read_text('utf-8')), place)}: "


def check(raw: dict[str, Any]) -> tuple[Settings | None, list[Problem]]:
    """Check what a configuration says; returns the settings and every problem with its place.

    Raises ContractError for what the environment says.
    """
    try:
        ServeConfig()
    except ValidationError as error:
        wrong = [
            f"environment variable ATTUNE_SERVE_{str(e['loc'][0]).upper()}: {say(e)}" for e in error.errors()
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
            problems += problems_of(error, raw, kind, place)
        except ContractError as error:
            problems.append(((*place, "type"), str(error)))
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        known = [place[:2] for place, _ in problems]
        return None, problems + [p for p in problems_of(error, raw, Settings) if p[0][:2] not in known]
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
                f"{nearest(settings.blend.fallback, names)}; or add a table [recommenders.…] of that name",
            )
        )
    if isinstance(settings.blend.weights, dict):
        found += [
            (("blend", "weights", name), f"weight for {name!r}, which is no source{nearest(name, names)}")
            for name in settings.blend.weights
            if name not in names
        ]
    sections = {kind: getattr(settings, kind) for kind in ("events", "items", "users", "vectors")}
    for kind, sources in sections.items():
        labels = [source.label for source in sources]
        found += [
            (
                (kind, number),
                f"[[{kind}]] {label!r} is there twice; its name is what messages and others know it by: "
                "give each its own name = …",
            )
            for number, label in enumerate(labels)
            if label in labels[:number]
        ]
    taken: dict[str, str] = {}
    for number, labelled in enumerate(settings.labels):
        for column in labelled.columns:
            if column in taken:
                what = f"[[labels]] {taken[column]!r} makes a column {column!r} already; give another name"
                found.append((("labels", number, "name"), what))
                break
            taken[column] = labelled.name
    reference = settings.evaluation.reference
    if reference is not None and Path(reference).stem in [*names, "blend"]:
        what = f"reference = {reference!r} would be shown as {Path(reference).stem!r}, which is a source"
        found.append((("evaluation", "reference"), f"{what}; rename the file"))
    return found
