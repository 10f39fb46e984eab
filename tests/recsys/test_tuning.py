"""Searches over plain functions whose optimum is known: found, resumed, pruned, bounded, and told."""

import json
import math
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from profiles.schema import ContractError
from recsys.apart import Apart, resident
from recsys.space import Choice, Range, Space
from recsys.tries import read
from recsys.tuning import Outcome, Pruned, Report, TuningConfig, search

SPACE = Space({"x": Range(0.01, 100, True, False), "n": Range(1, 20, False, True), "c": Choice(("a", "b"))})

FIRST = [{"x": 1.0, "n": 2, "c": "a"}]


def hill(settings) -> float:
    """Return a value whose top is 0 at x = e, n = 7, c = b."""
    slope = -((math.log(settings["x"]) - 1) ** 2) - (settings["n"] - 7) ** 2 / 10
    return slope - (settings["c"] != "b")


def climb(settings, report) -> Outcome:
    return Outcome(hill(settings))


def plain(found):
    """Return trials without how long they took."""
    return [replace(t, seconds=0.0) for t in found.tries]


def test_bayesian_finds_the_top_and_is_above_random():
    def reached(method):
        seeds = [TuningConfig(method=method, trials=40, seed=seed) for seed in range(4)]
        return np.mean([search(SPACE, climb, config).best.value for config in seeds])

    bayesian = reached("bayesian")
    assert bayesian > -0.3
    assert bayesian > reached("random") + 0.3


def test_importance_says_what_moves_the_value():
    def only_x(settings, report):
        return Outcome(-abs(math.log(settings["x"])) + 1e-3 * settings["n"])

    found = search(SPACE, only_x, TuningConfig(trials=60, method="random"))
    assert found.importance["x"] > 0.7
    assert sum(found.importance.values()) == pytest.approx(1)


def test_a_grid_tries_every_point_once():
    found = search(SPACE, climb, TuningConfig(method="grid", trials=1000, steps=3))
    assert len(found.tries) == 18
    assert len({tuple(t.settings.items()) for t in found.tries}) == 18
    assert found.best.value == pytest.approx(max(hill(p) for p in SPACE.grid(3)))
    assert found.complete
    few = search(SPACE, climb, TuningConfig(method="grid", trials=5, steps=3))
    assert [t.settings for t in few.tries] == [t.settings for t in found.tries[:5]]


@pytest.mark.parametrize("method", ["bayesian", "random"])
def test_a_small_space_is_tried_whole_and_nothing_twice(method):
    small = Space({"n": Range(1, 6, False, True), "c": Choice(("a", None))})
    tried = []

    def objective(settings, report):
        tried.append(tuple(settings.values()))
        return Outcome(settings["n"])

    assert len(search(small, objective, TuningConfig(method=method, trials=50)).tries) == 12
    assert sorted(tried, key=str) == sorted({(n, c) for n in range(1, 7) for c in ("a", None)}, key=str)
    tried.clear()
    search(small, objective, TuningConfig(method=method, trials=8))
    assert len(set(tried)) == len(tried) == 8


def test_settings_of_now_are_tried_first_even_where_they_lie_outside():
    found = search(SPACE, climb, TuningConfig(trials=3), first=[{"x": 345.6789, "n": 3, "c": "a", "z": 1}])
    assert found.tries[0].settings == {"x": 345.7, "n": 3, "c": "a"}


@pytest.mark.parametrize("method", ["bayesian", "random", "grid"])
def test_a_killed_search_ends_as_one_that_was_not(method, tmp_path):
    config = TuningConfig(method=method, trials=25, steps=3)

    def reporting(settings, report):
        report(1, hill(settings))
        return Outcome(hill(settings))

    whole = search(SPACE, reporting, config, first=FIRST)
    path, kills = tmp_path / "parts.jsonl", [7, 13]

    def killed(settings, report):
        if kills and len(read(path)) == kills[0]:
            kills.pop(0)
            raise KeyboardInterrupt
        return reporting(settings, report)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            search(SPACE, killed, config, path, first=FIRST)
        with path.open("ab") as file:
            file.write(b'{"settings": {"x": ')  # as a kill in the middle of a write leaves it
    found = search(SPACE, killed, config, path, first=FIRST)
    assert [t.settings for t in found.tries] == [t.settings for t in whole.tries]
    assert [t.value for t in found.tries] == [t.value for t in whole.tries]
    again = search(SPACE, lambda *_: pytest.fail("done before"), config, path, first=FIRST)
    assert plain(again) == plain(found)
    more = search(SPACE, climb, config.model_copy(update={"trials": 27}), path, first=FIRST)
    assert plain(more)[: len(found.tries)] == plain(found)


def test_seeds_repeat_and_differ():
    runs = [plain(search(SPACE, climb, TuningConfig(trials=12, seed=seed))) for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


def test_what_was_kept_is_checked(tmp_path):
    path = tmp_path / "kept.jsonl"
    search(SPACE, climb, TuningConfig(trials=2), path)
    lines = path.read_bytes().splitlines()
    path.write_bytes(lines[0] + b"\nnonsense\n" + lines[1] + b"\n")
    with pytest.raises(ContractError, match=r"kept\.jsonl, line 2: not as it was written"):
        search(SPACE, climb, TuningConfig(trials=4), path)
    path.write_text(json.dumps({"settings": {}}) + "\n")
    with pytest.raises(ContractError, match=r"line 1: not as it was written"):
        search(SPACE, climb, TuningConfig(trials=4), path)


# Pruning


@pytest.mark.parametrize("pruning", ["median", "halving", "none"])
def test_pruning_stops_the_worse_and_never_the_best(pruning):
    steps_taken = []

    def objective(settings, report):
        for step in (1, 3, 9):
            steps_taken.append(step)
            report(step, hill(settings) - 1 / step)
        return Outcome(hill(settings))

    config = TuningConfig(trials=60, method="random", pruning=pruning)
    found = search(SPACE, objective, config)
    everything = search(SPACE, climb, config)
    assert found.best.settings == everything.best.settings
    pruned = [t for t in found.tries if t.state == "pruned"]
    assert bool(pruned) == (pruning != "none")
    assert all(t.value == list(t.steps.values())[-1] for t in pruned)
    for number, t in enumerate(found.tries):  # by the rule, slowly
        ended = ("done", "pruned") if pruning == "halving" else ("done",)
        counted = [o for o in found.tries[:number] if o.state in ended]
        for step, value in t.steps.items():
            others = [o.steps[step] for o in counted if step in o.steps]
            above = sum(o > value for o in others)
            share = {"median": 1 / 2, "halving": 1 / 3, "none": 2}[pruning]
            stopped = len(others) >= 5 and above > share * len(others)
            last = step == max(t.steps)
            assert stopped == (t.state == "pruned" and last)
    if pruning != "none":
        assert len(steps_taken) < 3 * 60


# Budgets


def test_a_run_ends_in_time_and_the_next_goes_on(tmp_path):
    def slow(settings, report):
        for step in range(1, 100):
            time.sleep(0.002)
            report(step, hill(settings))
        return Outcome(hill(settings))

    config = TuningConfig(trials=10, minutes=0.9 / 60, pruning="none")
    begun = time.monotonic()
    first = search(SPACE, slow, config, tmp_path / "t.jsonl")
    assert time.monotonic() - begun < 30
    assert not first.complete
    assert len(first.tries) < 10
    rest = search(SPACE, climb, config.model_copy(update={"minutes": None}), tmp_path / "t.jsonl")
    assert rest.complete
    assert plain(rest)[: len(first.tries)] == plain(first)


def test_failures_are_told_and_the_search_goes_on():
    def fragile(settings, report):
        if settings["c"] == "a":
            raise ContractError("c = a cannot be fitted")
        return Outcome(math.nan if settings["n"] > 15 else hill(settings))

    told = []
    found = search(
        SPACE, fragile, TuningConfig(trials=30), tell=lambda tries, left: told.append((len(tries), left))
    )
    states = {t.state for t in found.tries}
    assert states == {"done", "failed"}
    assert {t.reason for t in found.tries if t.state == "failed"} == {
        "c = a cannot be fitted",
        "the outcome is nan",
    }
    assert found.best.settings["c"] == "b"
    assert [n for n, _ in told] == list(range(1, 31))
    assert told[-1][1] == 0


def test_a_search_without_hope_ends():
    calls = []

    def never(settings, report):
        calls.append(settings)
        raise ContractError("there are no texts")

    with pytest.raises(ContractError, match="the first 3 trials failed: there are no texts"):
        search(SPACE, never, TuningConfig())
    assert len(calls) == 3
    with pytest.raises(ContractError, match="there is nothing to search"):
        search(Space({}), climb, TuningConfig())


def test_mistakes_of_ours_are_not_hidden():
    def wrong(settings, report):
        return Outcome(settings["missing"])

    with pytest.raises(KeyError):
        search(SPACE, wrong, TuningConfig(trials=2))


# Apart

CHILD = """
import os, sys, time
from profiles.schema import ContractError
from recsys.apart import answer
from recsys.tuning import Outcome

def objective(settings, report):
    print("not a message")
    if settings["n"] == 1:
        raise ContractError("n is too small")
    if settings["n"] == 2:
        os.abort()
    if settings["n"] == 3:
        eaten = []
        while True:
            eaten.append(bytearray(os.urandom(1 << 20)) * 16)
    if settings["n"] == 0:
        time.sleep(600)
    for step in (1, 2, 3):
        report(step, settings["n"] - 1 / step)
    return Outcome(settings["n"], {"epochs": settings["n"], "process": os.getpid()})

answer(objective)
"""


def test_a_trial_apart_is_stopped_at_its_memory_and_others_go_on():
    one = Space({"n": Range(1, 9, False, True)})
    command = [sys.executable, "-c", CHILD]
    child = subprocess.Popen(command, stdin=subprocess.PIPE)
    time.sleep(1)
    assert resident(child.pid) > 1 << 20
    child.kill()
    child.communicate()
    apart = Apart(command, memory_gb=0.5)
    try:
        order = [{"n": n} for n in (4, 5, 1, 2, 3, 6, 7, 8)]
        found = search(one, apart, TuningConfig(trials=8, pruning="none"), first=order)
    finally:
        apart.close()
    by_n = {t.settings["n"]: t for t in found.tries}
    assert found.best.settings == {"n": 8}
    assert found.best.found["epochs"] == 8
    assert by_n[4].steps == {1: 3.0, 2: 3.5, 3: 4 - 1 / 3}
    assert by_n[1].reason == "n is too small"
    assert "the process of the trial ended by signal 6" in by_n[2].reason
    assert by_n[3].reason.startswith("took 0.5")
    assert by_n[3].reason.endswith("GB of memory, and may take 0.5")
    processes = {n: t.found["process"] for n, t in by_n.items() if t.state == "done"}
    assert processes[4] == processes[5] != processes[6] == processes[8]  # begun anew only where it had ended


def test_a_trial_apart_is_pruned_and_its_process_lives_on():
    apart = Apart([sys.executable, "-c", CHILD], memory_gb=2)
    try:
        kept = [apart({"n": 5}, Report(lambda step, value: True)).found["process"]]
        with pytest.raises(Pruned):
            apart({"n": 6}, Report(lambda step, value: step < 2))
        kept.append(apart({"n": 7}, Report(lambda step, value: True)).found["process"])
    finally:
        apart.close()
    assert kept[0] == kept[1]


def test_a_trial_apart_ends_with_the_search_that_was_killed():
    program = f"""
import sys
from recsys.apart import Apart
from recsys.tuning import Report

apart = Apart([sys.executable, "-c", {CHILD!r}], memory_gb=2)
print(apart._start().pid, flush=True)
apart({{"n": 0}}, Report(lambda step, value: True))
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(1)
    assert resident(child)
    parent.kill()
    parent.communicate()
    until = time.monotonic() + 60
    while resident(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not resident(child)
