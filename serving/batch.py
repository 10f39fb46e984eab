"""Batch recommendation: every user's list and where its scores come from, streamed to two Parquet files."""

import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from profiles.interactions import InteractionsConfig, interactions
from profiles.snapshot import Snapshot
from recsys.schema import RECOMMENDATIONS
from recsys.split import SplitConfig, seen
from serving.progress import Progress
from serving.release import Release
from serving.schema import CONTRIBUTIONS
from serving.settings import Settings
from serving.words import Words

USERS = 1024  # queries blended at once


def write(
    release: Release, snapshot: Snapshot, words: Words, settings: Settings, folder: Path, progress: Progress
) -> int:
    """Write recommendations.parquet and contributions.parquet for every user; returns how many.

    Both appear whole, at the end. Beside the snapshot's events, memory holds USERS lists at a time.
    """
    users = snapshot.frame("user_profiles")["user_id"]
    kept = release.about["settings"]  # the release's own: the settings may have changed since
    weighted = interactions(snapshot.frame("events"), InteractionsConfig.model_validate(kept["interactions"]))
    texts = snapshot.frame("texts").filter(owner="user").rename({"id": "user_id"})
    config = SplitConfig.model_validate(
        {k: v for k, v in kept["evaluation"].items() if k in SplitConfig.model_fields}
    )
    with tempfile.TemporaryDirectory(prefix=".batch-", dir=folder) as name:
        paths = [Path(name) / f"{stem}.parquet" for stem in ("recommendations", "contributions")]
        schemas = [frame.empty().to_arrow().schema for frame in (RECOMMENDATIONS, CONTRIBUTIONS)]
        writers = [pq.ParquetWriter(p, s, compression="zstd") for p, s in zip(paths, schemas, strict=True)]
        with progress.task("recommend", len(users)) as advance:
            for start in range(0, len(users), USERS):
                ids = users[start : start + USERS]
                own = weighted.filter(weighted["user_id"].is_in(ids.implode()))
                written = texts.filter(texts["user_id"].is_in(ids.implode()))
                queries = release.catalogue.queries(
                    ids.to_list(),
                    own,
                    snapshot.as_of,
                    seen(own, config),
                    words.users(ids.to_list(), written, snapshot.as_of),
                    kept["recommend"]["history_limit"],
                )
                blended = release.recommend(queries, settings.recommend.k)
                frames = blended.frames(queries.ids, release.catalogue.items)
                for writer, frame, schema in zip(writers, frames, schemas, strict=True):
                    writer.write_table(frame.to_arrow().cast(schema))
                advance(len(ids))
        for writer, path in zip(writers, paths, strict=True):
            writer.close()
            path.replace(folder / path.name)
    return len(users)
