"""A process whose memory is limited: `python -m serving.tune_apart FOLDER CONFIG SOURCE SETTINGS`."""

import json
import sys

from recsys.apart import answer
from serving.pipeline import Pipeline
from serving.settings import TuneConfig
from serving.tune import Tuner
from serving.workspace import Workspace


def main() -> None:
    """Try the settings that come on stdin."""
    folder, config, source, settings = sys.argv[1:]
    tuner = Tuner(Pipeline(Workspace(folder, config or None)), TuneConfig(**json.loads(settings)))
    answer(tuner.objective(source))


if __name__ == "__main__":
    main()
