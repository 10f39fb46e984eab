"""A workspace: one folder with the log, the snapshots, the releases and the answers, and its door.

    store/events.db   exposures.db        rejected.parquet
    embeddings.db                         evaluation.json  costs.json  metrics.parquet  examples.parquet
    snapshots/ derived/ cache/fits/       recommendations.parquet  contributions.parquet
    releases/ encoders/ tuning/           report/  settings.json  state.json

`from serving import Workspace` is the door for notebooks.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from profiles import manifest
from profiles.schema import ContractError
from profiles.snapshot import Snapshot
from profiles.sources.variables import expanded
from profiles.store import EventStore, open_store
from recsys import ranks
from serving.release import Release, Releases
from serving.settings import Settings, TextConfig
from serving.settings import check as check_settings
from serving.settings import load as load_settings
from serving.words import Words

if TYPE_CHECKING:
    from serving.notebook import Evaluation, Lists, Profile, Verdict

ENCODERS = "encoders"  # trained in the workspace
# How files and folders are called until they are whole (profiles.manifest, serving.batch).
UNFINISHED = (
    *(f".{name}-*" for name in ("batch", "settings.json", "state.json", "evaluation.json", "costs.json")),
    *(f".{name}.parquet-*" for name in ("metrics", "examples", "rejected")),
    "report/.*",
    "tuning/.*",
    *(
        f"{folder}/.*-*"
        for folder in ("snapshots", "derived", "derived/*", "cache/fits", "releases", ENCODERS)
    ),
)


class Workspace:
    """Paths and parts of one workspace; opening it reads only its settings."""

    def __init__(self, folder: str | Path, config: str | Path | None = None) -> None:
        """Open `folder` with the settings of `config` (attune.toml), or with those it was last run with."""
        self.folder = Path(folder)
        self.config = None if config is None else Path(config).resolve()
        if config is not None:
            self.settings = load_settings(Path(config))
            self.root = Path(config).resolve().parent
        else:
            self.settings, self.root = self._remembered()

    def _remembered(self) -> tuple[Settings, Path]:
        kept = _kept(self.folder)
        try:
            settings, problems = check_settings(kept["settings"])
            root = Path(kept["root"])
        except (AttributeError, KeyError, TypeError) as error:
            raise ContractError(_unreadable(self.folder, f"{error} is not as it was written")) from None
        if settings is None or problems:
            raise ContractError(_unreadable(self.folder, "; ".join(what for _, what in problems)))
        return settings, root

    def remember(self) -> None:
        """Keep the settings in the workspace, so that later commands need no --config."""
        if self.config is None:
            return  # they were read from there
        kept = {
            "config": str(self.config),
            "root": str(self.root),
            "settings": self.settings.model_dump(mode="json"),
        }
        manifest.write_atomically(self.folder / "settings.json", json.dumps(kept, indent=2).encode())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the workspace against other runs, and sweep away what a killed one left half-written."""
        with alone(self.folder):
            yield

    @cached_property
    def store(self) -> EventStore:
        """The log and the catalogue."""
        return self._open_store("events")

    @cached_property
    def exposures(self) -> EventStore:
        """What was shown, in a file of its own: writing it never waits for the log."""
        return self._open_store("exposures")

    def _open_store(self, name: str) -> EventStore:
        """Open a store of this workspace; in a database, what was shown stands beside the log."""
        url, folder = self.settings.store.url, self.folder / "store"
        if url is None:
            return open_store(folder / f"{name}.db", folder / name)
        return open_store(expanded(url), folder / "log")

    @cached_property
    def words(self) -> Words:
        """Texts as vectors."""
        return Words(self.settings.text, self.folder / "embeddings.db")

    def words_of(self, release: Release) -> Words:
        """Texts as vectors the way a release reads them, whatever the settings say by now."""
        config = TextConfig.model_validate(release.about["settings"]["text"])
        return self.words if config == self.settings.text else Words(config, self.words.path)

    @property
    def releases(self) -> Releases:
        """What was published."""
        return Releases(self.folder / "releases")

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot."""
        name = self.state().get("build", {}).get("snapshot")
        if name is None:
            raise ContractError(f"{self.folder}: nothing is built yet; run `attune build`")
        folder = self.folder / "snapshots" / name
        if not folder.is_dir():
            raise ContractError(f"{folder}: the snapshot is gone; run `attune build`")
        return Snapshot(folder)

    def located(self, path: str) -> Path:
        """Return a path that the settings name, from their folder on; ContractError for an unset ${VAR}."""
        return self.root / Path(expanded(path)).expanduser()

    def state(self) -> dict[str, Any]:
        """Return what each stage left: its key and its result."""
        path = self.folder / "state.json"
        try:
            state: dict[str, dict[str, Any]] = json.loads(path.read_bytes())
            if not all("key" in result for result in state.values()):
                raise TypeError("a stage without key")
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError) as error:
            raise ContractError(f"{path}: not readable: {error}; delete it and run again") from None
        return state

    def finish(self, stage: str, key: str, result: Mapping[str, Any]) -> None:
        """Remember that a stage has run for these inputs."""
        state = self.state() | {stage: {"key": key, **result}}
        manifest.write_atomically(self.folder / "state.json", json.dumps(state, indent=2).encode())

    def read(self, name: str) -> pl.DataFrame:
        """Return one of the workspace's Parquet files, such as recommendations."""
        path = self.folder / f"{name}.parquet"
        if not path.is_file():
            raise ContractError(f"{path}: not there yet; run `attune run`")
        return pl.read_parquet(path)

    @cached_property
    def release(self) -> Release:
        """The release that was active when it was first asked for."""
        return self.releases.load_active()

    def write(self, name: str, frame: pl.DataFrame) -> None:
        """Replace one of the workspace's Parquet files in one step: readers see the old or the new."""
        content = BytesIO()
        frame.write_parquet(content)
        manifest.write_atomically(self.folder / f"{name}.parquet", content.getvalue())

    def run(self, *stages: str) -> "Workspace":
        """Run stages, or all; what is up to date is skipped. Returns the workspace."""
        from serving.pipeline import STAGES, Pipeline

        Pipeline(self).run(stages or STAGES)
        self.__dict__.pop("release", None)  # there may be a newer one
        return self

    def check(self) -> pl.DataFrame:
        """Return what the checks say of the log: check, level, message, advice."""
        from serving.pipeline import Pipeline

        return pl.DataFrame([asdict(f) for f in Pipeline(self).findings()], infer_schema_length=None)

    def recommend(
        self,
        users: str | Sequence[str],
        k: int = 10,
        as_of: datetime | None = None,
        text: str | None = None,
        explain: bool = False,
    ) -> "Lists":
        """Return lists with titles for some users, from what the log says of them by now.

        `text` is what is asked for in words; with `explain` each item says why it is there. Raises
        ContractError for a list of nothing or for nobody.
        """
        from serving.engine import Engine
        from serving.notebook import Lists

        users = [users] if isinstance(users, str) else users
        if k < 1:
            raise ContractError(f"k is the length of a list, so at least 1, not {k}")
        if not len(users):
            raise ContractError(
                "lists are for somebody: name a user; an unknown id gets what a new user would"
            )
        engine = Engine(self, self.release)
        frame, parts = engine.recommendations(users, k, as_of, text)
        if explain:
            why = pl.concat([engine.reasons(user, k, as_of, text) for user in users])
            frame = frame.join(why, on=["user_id", "item_id"], how="left", maintain_order="left")
        return Lists(frame, parts)

    def evaluate(self) -> "Evaluation":
        """Return what the evaluation found, running it if needed."""
        from serving.notebook import Evaluation

        self.run("build", "evaluate")
        return Evaluation.read(self)

    def report(self, out: str | Path | None = None) -> Path:
        """Write the last evaluation's page and charts, as `attune report`; returns the page."""
        from serving.write_report import write

        return write(self, None if out is None else Path(out))[0]

    def compare(self, a: str, b: str, metric: str | None = None, k: int | None = None) -> "Verdict":
        """Return which of two evaluated sources is better, as `attune compare`."""
        from serving.compare import compare
        from serving.notebook import Verdict

        return Verdict(compare(self, a, b, metric, k))

    def profile(self, user_id: str) -> "Profile":
        """Return what the log says of one user by now."""
        from serving.engine import Engine
        from serving.notebook import Profile

        return Profile(Engine(self, self.release).profile(user_id))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder of a workspace, which may be none yet, against other runs; sweep it."""
    if ranks.started():
        raise ContractError(
            "torchrun started several processes, and one alone may work in a workspace: run this without "
            "torchrun; under it, fit a recommender from Python (see recsys.ranks)"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ContractError(f"{folder}: another run is at work in it; wait for it") from None
        for pattern in UNFINISHED:
            for left in folder.glob(pattern):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield


def settings_file(folder: Path, config: Path | None = None) -> Path | None:
    """Choose attune.toml: `config`, else the one the workspace was last run with, else the one here.

    None where the one it was run with is gone; the workspace then goes by what it remembers.
    """
    here = Path("attune.toml")
    if config is not None or not (folder / "settings.json").exists():
        return config or (here if here.exists() else None)
    name = _kept(folder).get("config")
    return Path(name) if isinstance(name, str) and Path(name).is_file() else None


def _kept(folder: Path) -> dict[str, Any]:
    try:
        kept = json.loads((folder / "settings.json").read_bytes())
    except FileNotFoundError:
        raise ContractError(
            f"{folder} is no workspace yet; `attune run --config attune.toml --workspace {folder}` makes one"
        ) from None
    except ValueError as error:
        raise ContractError(_unreadable(folder, str(error))) from None
    if not isinstance(kept, dict):
        raise ContractError(_unreadable(folder, "it is no JSON object"))
    return kept


def _unreadable(folder: Path, why: str) -> str:
    return f"{folder / 'settings.json'}: not readable: {why}; give --config attune.toml to write it anew"
