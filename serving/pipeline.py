"""The stages from log to answers, each skipped while what it depends on has not changed.

ingest → check → build → train → recommend → evaluate. A stage's key is a hash of its inputs' content
and of the settings it reads; `state.json` remembers the keys. Fits are kept by content as well, so an
interrupted run goes on from the last finished fit, and train and evaluate share the fits they have in
common. Evaluation comes last: a log too small to be judged still gets its lists.

Weights are never chosen on what they are judged by: `evaluate` chooses them on splits made inside the
train part of its first test split; `train` chooses the released ones on the newest splits, then refits
every source on everything, or, where the settings say so, goes on from the release before (`warm`).
"""

import json
import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import polars as pl

from nlp.derive import derive, item_matrix
from nlp.reviews import reviews
from profiles import manifest
from profiles.checks import Finding, Log, run_checks
from profiles.schema import EVENTS, ContractError
from profiles.snapshot import build as build_snapshot
from profiles.versions import as_of
from recsys.dataset import Catalogue, Dataset
from recsys.ranking import Ranked
from recsys.split import Split, splits, validations
from recsys.vectors import matrices
from serving import batch, brought, details, ingest, labels, report
from serving.progress import Progress
from serving.release import Release, publish
from serving.training import Checkpoints
from serving.trial import Fits, Laboratory, Trial, choose_weights, reference_ranking
from serving.warm import base
from serving.workspace import Workspace

STAGES = ("ingest", "check", "build", "train", "recommend", "evaluate")


class Pipeline:
    """Runs stages of one workspace."""

    def __init__(self, workspace: Workspace, progress: Progress | None = None) -> None:
        self.workspace = workspace
        self.settings = workspace.settings
        self.progress = progress or Progress()
        self.ran: dict[str, bool] = {}  # stage: whether it ran, or was up to date

    def run(self, stages: Iterable[str] = STAGES, force: bool = False) -> None:
        """Run the stages in order; one whose inputs are unchanged is skipped unless `force`."""
        with self.workspace.alone():
            self.workspace.remember()
            self._run(stages, force)

    def _run(self, stages: Iterable[str], force: bool) -> None:
        steps: dict[str, Callable[[str], dict[str, Any]]] = {
            "ingest": self._ingest,
            "check": self._check,
            "build": self._build,
            "train": self._train,
            "evaluate": self._evaluate,
            "recommend": self._recommend,
        }
        for stage in stages:
            key = self._key(stage)
            known = self.workspace.state().get(stage, {})
            if known.get("key") == key and not force and self._intact(stage):
                self.ran[stage] = False
                self.progress.say(f"{stage}: up to date")
                continue
            self.workspace.finish(stage, key, steps[stage](stage))
            self.ran[stage] = True
            if stage in ("train", "evaluate"):
                self.laboratory.fits.checkpoints.sweep()  # of fits whose settings are others by now
        if self.ran.get("train") and self.ran.get("evaluate"):
            self.laboratory.fits.prune()  # all that may be used again was used just now

    def _key(self, stage: str) -> str:
        """Hash what a stage depends on."""
        s, state = self.settings, self.workspace.state()
        if stage == "ingest":
            return ingest.key(self.workspace)
        read = state.get("ingest", {}).get("key")
        store = self.workspace.store
        log = [store.watermark(), store.revision(), store.marks().get("timeless"), read]
        if stage == "check":
            return manifest.content_key(log, s.interactions.model_dump())
        if stage == "build":
            parts = [part.model_dump() for part in (s.interactions, s.profiles, s.text)]
            return manifest.content_key(log, *parts, brought.key(self.workspace), labels.key(self.workspace))
        built = state.get("build", {}).get("snapshot")
        if stage == "evaluate" and s.evaluation.reference is not None:
            reference = self.workspace.root / s.evaluation.reference
            log.append(manifest.sha256(reference) if reference.is_file() else None)
        if stage == "evaluate" and s.evaluation.slices:
            log.append(state.get("build", {}).get("labels"))
        read = [part.model_dump() for part in (s.text, s.blend, s.evaluation)]
        fits = [built, brought.folder(self.workspace), s.recommenders, read, *self.files()]
        if stage == "recommend":
            return manifest.content_key(self.workspace.releases.active(), built, s.recommend.model_dump())
        if stage == "train" and s.train.warm:
            log.append("warm")
        return manifest.content_key(stage, fits, s.recommend.history_limit, log[4:])

    def files(self) -> tuple[str, ...]:
        """Return the digests of the files of a split that others made."""
        files = self.settings.evaluation.files
        named = [] if files is None else [self.workspace.root / name for _, name in files if name]
        return tuple(manifest.sha256(path) for path in named if path.is_file())

    def _intact(self, stage: str) -> bool:
        """Whether what a stage wrote is still there; a sealed folder that is damaged is removed."""
        folder, result = self.workspace.folder, self.workspace.state()[stage]
        sealed = {
            "build": [
                f"snapshots/{result.get('snapshot')}",
                *(result.get("texts"), result.get("vectors"), *result.get("labels", ())),
            ],
            "train": [f"releases/{result.get('release')}"],
        }.get(stage, [])
        for place in sealed:
            try:
                if place is not None:
                    manifest.verify(folder / place)
            except ContractError:
                shutil.rmtree(folder / place, ignore_errors=True)
                return False
        wanted = {
            "ingest": ["store/events.db", "rejected.parquet"],
            "evaluate": ["evaluation.json", "metrics.parquet", "examples.parquet", "costs.json"],
            "recommend": ["recommendations.parquet", "contributions.parquet"],
        }.get(stage, [])
        return all((folder / name).is_file() for name in wanted)

    def _ingest(self, stage: str) -> dict[str, Any]:
        return ingest.run(self.workspace, self.progress)

    def findings(self) -> list[Finding]:
        """Run the named checks on the log."""
        store = self.workspace.store
        events = pl.concat([EVENTS.empty(), *store.scan()])
        timeless = store.marks().get("timeless") == "yes"
        weights = self.settings.interactions.weights
        now = datetime.now(UTC)
        items = as_of(store.catalogue("items"), now, "item_id")
        users = as_of(store.catalogue("users"), now, "user_id")
        return run_checks(Log(events, items, users, weights, datetime.now(UTC), timeless))

    def _check(self, stage: str) -> dict[str, Any]:
        with self.progress.task("check"):
            found = self.findings()
        bad = [f for f in found if f.level != "PASS"]
        for f in bad:
            example = f" (such as {f.example})" if f.example else ""
            self.progress.say(f"check: {f.level} {f.check}: {f.message}{example}; {f.advice}")
        failed = [f for f in found if f.level == "FAIL"]
        if failed:
            raise ContractError("\n".join(f"check {f.check}: {f.message}; {f.advice}" for f in failed))
        self.progress.say(f"check: {len(found) - len(bad)} of {len(found)} promises kept")
        return {"warnings": len(bad)}

    def _build(self, stage: str) -> dict[str, Any]:
        w, s = self.workspace, self.settings
        snapshot = build_snapshot(
            w.store,
            w.folder / "snapshots",
            s.interactions,
            s.profiles,
            progress=lambda what, total: self.progress.task(f"build: {what}", total),
        )
        counts = snapshot.about["counts"]
        self.progress.say(
            f"build: snapshot {snapshot.name} as of {snapshot.as_of:%Y-%m-%d %H:%M}: "
            f"{counts['events']:,} events, {counts['users']:,} users, {counts['items']:,} items"
        )
        texts: str | None = None
        if s.text.enabled and len(snapshot.frame("texts")):
            with self.progress.task(
                "build: text vectors", snapshot.frame("texts")["text_hash"].n_unique()
            ) as bar:
                folder = derive(
                    snapshot, w.words.encoder, w.words.cache, s.text.half_life_days, w.folder / "derived", bar
                )
            texts = str(folder.relative_to(w.folder))
        vectors = brought.derive(w, snapshot, self.progress)
        labelled = labels.derive(w, snapshot, self.progress)
        return {"snapshot": snapshot.name, "texts": texts, "vectors": vectors, "labels": labelled}

    @cached_property
    def laboratory(self) -> Laboratory:
        """What the fits of this snapshot share."""
        w, snapshot = self.workspace, self.workspace.snapshot
        manifest.verify(snapshot.folder)
        catalogue = Catalogue.of(
            snapshot.frame("items"), snapshot.frame("events").select("item_id", "timestamp"), snapshot.as_of
        )
        texts = w.state()["build"]["texts"]
        vectors = None if texts is None else item_matrix(w.folder / texts, catalogue.items.ids)
        written = snapshot.frame("texts").filter(pl.col("owner") == "user").rename({"id": "user_id"})
        fits = Fits(w.folder / "cache" / "fits", Checkpoints.of(w, "fits"))
        folder = brought.folder(w)
        own = {} if folder is None else matrices(w.folder / folder, catalogue.items)
        key = manifest.content_key(snapshot.name, self.settings.text.model_dump(), folder)
        return Laboratory(
            catalogue,
            vectors,
            own,
            written,
            w.words,
            self.settings,
            fits,
            key,
            snapshot.timeless,
            self.files(),
            reviews(snapshot.frame("events")) if self.settings.text.reviews else None,
        )

    @cached_property
    def tests(self) -> list[Trial]:
        """The newest splits: `evaluate` is judged on them, `train` chooses weights on them."""
        return self._trials(splits, "test")

    @property
    def _interactions(self) -> pl.DataFrame:
        return self.workspace.snapshot.frame("interactions")

    def cuts(self, protocol: Callable[..., list[Split]]) -> list[Split]:
        """Return the splits of the log for testing (`splits`) or choosing (`validations`)."""
        config, laboratory = self.settings.evaluation, self.laboratory
        return protocol(
            self._interactions, laboratory.catalogue, config, laboratory.timeless, self.workspace.root
        )

    def _trials(self, protocol: Callable[..., list[Split]], title: str) -> list[Trial]:
        cuts = self.cuts(protocol)
        return [
            self.laboratory.run(cut, self.progress, f"{title} {number}/{len(cuts)}")
            for number, cut in enumerate(cuts, 1)
            if cut.users
        ]

    def _train(self, stage: str) -> dict[str, Any]:
        w, laboratory, snapshot = self.workspace, self.laboratory, self.workspace.snapshot
        train = laboratory.dataset(self._interactions, snapshot.as_of)
        key = manifest.content_key(laboratory.key, "all")
        release = self._updated(train, key) if self.settings.train.warm else None
        if release is None:
            tests = self.tests
            fitted, reasons = laboratory.fit_all(train, key, self.progress, "train")
            weights = choose_weights(tests, fitted, laboratory.catalogue, self.settings)
            about = {"left_out": reasons, "validation": self._validation(weights)}
            release = self.release(fitted, weights, about)
        weights = dict(release.weights)
        name = publish(release, w.releases.root)
        w.releases.activate(name)
        shown = ", ".join(f"{source} {weight:.2f}" for source, weight in weights.items())
        self.progress.say(f"train: release {name} is active; blend: {shown}")
        return {"release": name, "weights": weights}

    def _updated(self, train: Dataset, key: str) -> Release | None:
        """Go on from the release before, its weights kept; None where that cannot be."""
        before, why = base(self.workspace.releases, self._facts())
        if before is not None:
            old = before.recommenders
            key = manifest.content_key(key, before.name)
            fitted, reasons = self.laboratory.fit_all(train, key, self.progress, "train: update", old)
            if not reasons:
                kept = {name: before.about[name] for name in ("left_out", "validation")}
                about = {"updated_from": before.name, **kept}
                self.progress.say(f"train: goes on from release {before.name}")
                return self.release(fitted, dict(before.weights), about)
            why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        self.progress.say(f"train: fits everything anew: {why}")
        return None

    def _validation(self, weights: dict[str, float]) -> dict[str, float]:
        """Return the mean NDCG of each source and the blend on the splits that chose the weights."""
        if not self.tests:
            return {}
        rankings = [self._judged(trial, weights) for trial in self.tests]
        config = self.settings.evaluation.model_copy(update={"metrics": ("ndcg",), "ks": (10,)})
        settings = self.settings.model_copy(update={"evaluation": config})
        found = report.results(self.tests, rankings, self.laboratory.catalogue, settings, weights)
        return {row["source"]: round(row["mean"], 6) for row in found.table.iter_rows(named=True)}

    def release(self, fitted: Any, weights: dict[str, float], about: dict[str, Any]) -> Release:
        """Put fitted sources into a release that also knows the settings answers depend on."""
        s, facts = self.settings, {**self._facts(), **about}
        used = {n: r for n, r in fitted.items() if n in weights or n == s.blend.fallback or r.reads_text}
        if s.blend.fallback not in used:
            raise ContractError(f"blend: the fallback {s.blend.fallback!r} could not be fitted on this data")
        context = self.workspace.snapshot.folder / "context"
        return Release("", facts, self.laboratory.catalogue, used, weights, s.blend, context)

    def _facts(self) -> dict[str, Any]:
        """Return what a release of this snapshot and these settings says of them."""
        s, snapshot = self.settings, self.workspace.snapshot
        kept = {
            "interactions": s.interactions,
            "profiles": s.profiles,
            "evaluation": s.evaluation,
            "text": s.text,
            "recommend": s.recommend,
        }
        return {
            "snapshot": snapshot.name,
            "as_of": snapshot.as_of.isoformat(),
            "revision": snapshot.about["revision"],
            "event_types": snapshot.about["event_types"],
            "recommenders": {n: c.describe() for n, c in s.sources().items()},
            "settings": {name: config.model_dump(mode="json") for name, config in kept.items()},
            "blend": s.blend.model_dump(),
        }

    def _evaluate(self, stage: str) -> dict[str, Any]:
        laboratory, config = self.laboratory, self.settings.evaluation
        columns = details.labels(labels.profiles(self.workspace, "user"), config.slices)
        tests = self.tests
        if not tests:
            raise ContractError(
                "evaluate: no user has a past before the cut and something new after it; "
                "the log is too short or too small to evaluate on"
            )
        chosen_on = self._trials(validations, "validation")
        able = [name for name in tests[0].rankings if all(name in trial.rankings for trial in tests)]
        weights = choose_weights(chosen_on, able, laboratory.catalogue, self.settings)
        with self.progress.task("evaluate: measure"):
            rankings = [self._judged(trial, weights) for trial in tests]
            found = report.results(tests, rankings, laboratory.catalogue, self.settings, weights)
            closer = details.details(tests, rankings, laboratory.catalogue, config, columns)
            release = self.release(tests[-1].recommenders, weights, {})
            costs = details.costs(tests, release, max(config.ks))
        folder = self.workspace.folder
        self.workspace.write("metrics", found.metrics)
        self.workspace.write("examples", closer.examples)
        manifest.write_atomically(folder / "costs.json", json.dumps(costs, indent=1).encode())
        manifest.write_atomically(folder / "evaluation.json", found.json(closer))
        return {"weights": weights}

    def _judged(self, trial: Trial, weights: dict[str, float]) -> dict[str, Ranked]:
        """Return a trial's rankings, the blend's beside them, and the known answer's where there is one."""
        catalogue, config = self.laboratory.catalogue, self.settings.evaluation
        release = self.release(trial.recommenders, weights, {})
        used = {name: trial.rankings[name] for name in weights}
        blended = release.recommend(trial.queries, max(config.ks), rankings=used)
        rankings = {**trial.rankings, "blend": blended.ranked}
        if config.reference is not None:
            path = self.workspace.root / config.reference
            if not path.is_file():
                raise ContractError(f"evaluation: reference = {config.reference!r}: there is no file {path}")
            rankings[path.stem] = reference_ranking(path, trial.queries, catalogue, max(config.ks))
        return rankings

    def _recommend(self, stage: str) -> dict[str, Any]:
        w = self.workspace
        release = w.releases.load_active()
        users = batch.write(release, w.snapshot, w.words_of(release), self.settings, w.folder, self.progress)
        self.progress.say(f"recommend: {users:,} users in recommendations.parquet and contributions.parquet")
        return {"users": users, "release": release.name}
