"""A process whose memory is limited: `python -m serving.tune_apart KIND WORDS…`, as `Subject.apart` says."""

import json
import sys

from recsys.apart import answer
from serving.pipeline import Pipeline
from serving.settings import TuneConfig
from serving.tune import Subject
from serving.tune_sources import Source, Tuner
from serving.tune_texts import of_words
from serving.workspace import Workspace


def main() -> None:
    """Try the settings that come on stdin."""
    kind, *told = sys.argv[1:]
    if kind == "source":
        folder, config, name, settings = told
        tuner = Tuner(Pipeline(Workspace(folder, config or None)), TuneConfig(**json.loads(settings)))
        subject: Subject = Source(tuner, name)
    else:
        subject = of_words(kind, told)
    answer(subject.objective())


if __name__ == "__main__":
    main()
