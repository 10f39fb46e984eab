"""The command line: what each command prints where, and with what code it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from profiles.simulate import WorldConfig
from serving import cli
from serving.workspace import Workspace

ATTUNE = [sys.executable, "-m", "serving.cli"]
ROOT = Path(__file__).parents[2]


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def attune(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """`attune("run", "--json")` runs the command in this process, mistakes and all."""

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["attune", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        code = end.value.code
        assert isinstance(code, int | None)
        return Ended(code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a tiny log and its attune.toml; nothing has run."""
    rows = [
        f"u{u},i{(u * 7 + n * n) % 11},view,2024-01-{n + 1:02}T{u:02}:00"
        for n in range(20)
        for u in range(12)
    ]
    (tmp_path / "log.csv").write_text("user_id,item_id,event_type,timestamp\n" + "\n".join(rows) + "\n")
    (tmp_path / "attune.toml").write_text(
        '[[events]]\npath = "log.csv"\n[text]\nenabled = false\n'
        "[recommenders.popularity]\n[recommenders.item_knn]\n"
        "[evaluation]\nrepeat_consumption = true\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def process(*arguments: str, cwd: Path, **settings: str) -> Ended:
    done = subprocess.run(
        [*ATTUNE, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


# Starting


def test_help_loads_nothing_heavy_and_is_fast(tmp_path):
    script = (
        "import sys, time; start = time.perf_counter()\n"
        "from serving import cli; sys.argv = ['attune', '--help']\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "print('took', time.perf_counter() - start); print('loaded', *{m.split('.')[0] for m in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split("loaded ")[1].split())
    assert not loaded & {"torch", "polars", "numpy", "scipy", "pydantic", "transformers", "duckdb", "fastapi"}
    assert float(done.stdout.split("took ")[1].split()[0]) < 2  # 0.2 s where nothing else runs
    for command in (
        "init",
        "ingest",
        "check",
        "build",
        "train",
        "evaluate",
        "recommend",
        "compare",
        "run",
        "serve",
        "demo",
    ):
        assert re.search(rf"\b{command}\b", done.stdout)


def test_help_shows_what_stands_in_brackets(attune):
    told = attune("search", "--help").out
    assert "[search] by" in told
    assert "[search.reader] model" in told
    declared = [*(ROOT / "serving").glob("cli*.py")]
    swallowed = re.compile(r"""help="[^"]*(?<!\\)\[[a-z]""")  # a name in brackets is read as a style
    assert not [file.name for file in declared if swallowed.search(file.read_text())]


def test_the_door_for_notebooks_is_open():
    import serving

    assert serving.Workspace is Workspace
    assert serving.__all__ == ["Workspace", "sample"]
    with pytest.raises(AttributeError, match="no attribute 'Worksapce'"):
        _ = serving.Worksapce
    done = subprocess.run([sys.executable, "-c", "from serving import *; Workspace"], cwd=ROOT, check=False)
    assert done.returncode == 0


def test_no_command_shows_the_help(attune):
    assert "Usage" in (shown := attune()).out + shown.err
    assert attune("realese").code == 2


def test_threads_are_asked_for_in_three_ways_and_refused_in_one(small, monkeypatch):
    monkeypatch.setenv("ATTUNE_THREADS", "1")
    assert "1 threads" in process("doctor", cwd=small).out
    assert "2 threads" in process("--threads", "2", "doctor", cwd=small).out
    refused = process("doctor", cwd=small, ATTUNE_THREADS="many")
    assert refused.code == 2
    assert "ATTUNE_THREADS=many" in refused.err
    assert "Traceback" not in refused.err


# init


def test_init_writes_what_loads_and_overwrites_nothing(attune, tmp_path, monkeypatch):
    from serving.settings import load

    monkeypatch.chdir(tmp_path)
    first = attune("init")
    assert first.code == 0
    assert "attune run --config attune.toml" in first.out
    load(Path("attune.toml"))
    Path("attune.toml").write_text("mine")
    again = attune("init")
    assert (again.code, again.out) == (2, "")
    assert again.err == "attune: attune.toml exists; --force replaces it\n"
    assert Path("attune.toml").read_text() == "mine"
    assert attune("init", "--force").code == 0
    assert Path("attune.toml").read_text() != "mine"
    missing = attune("init", "no/such/folder/attune.toml")
    assert missing.code == 2
    assert missing.err == "attune: no/such/folder/attune.toml: No such file or directory\n"


# The stages


def test_every_stage_is_a_command(attune, small):
    for stage, told in {
        "ingest": "ingest: 240 new events",
        "build": "build: snapshot",
        "train": "train: release",
        "evaluate": "",
        "recommend": "recommend: 12 users",
    }.items():
        ended = attune(stage)
        assert ended.code == 0, ended.err
        assert told in ended.err
        assert "Evaluation" in ended.out if stage == "evaluate" else not ended.out
        assert f"{stage}: up to date\n" == attune(stage).err
    assert attune("check").code == 0
    compared = attune("compare", "blend", "popularity")
    assert "ndcg@10 over" in compared.out
    assert json.loads(attune("compare", "blend", "popularity", "--json").out)["verdict"][0] in compared.out
    assert attune("compare", "blend", "popular").code == 2
    assert f"{attune('train', '--force').err}".startswith("train: release")


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ("build", "the log is empty: run `attune ingest` first"),
        ("train", "nothing is built yet; run `attune build`"),
        ("evaluate", "nothing is built yet; run `attune build`"),
        ("recommend", "no release is active; run `attune train`"),
    ],
)
def test_a_stage_without_the_one_before_says_which(attune, small, stage, told):
    ended = attune(stage, "--config", "attune.toml")
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err
    assert ended.err.startswith("attune: ")


def test_run_does_it_all_and_then_nothing(attune, small):
    first = attune("run")
    assert first.code == 0
    assert all(name in first.out for name in ("Evaluation", "ndcg@10", "popularity", "item_knn", "blend"))
    assert "\n\n" not in first.err  # bars leave nothing where there is no terminal
    again = attune("run")
    assert again.err.splitlines() == [
        f"{s}: up to date" for s in ("ingest", "check", "build", "train", "recommend", "evaluate")
    ]
    assert again.out == first.out
    assert "up to date" not in attune("run", "--force").err


def test_json_is_all_there_is_on_stdout_and_quiet_says_nothing(attune, small):
    ended = attune("run", "--json")
    found = json.loads(ended.out)
    assert list(found) == ["ingest", "check", "build", "train", "recommend", "evaluate"]
    assert all(stage["ran"] for stage in found.values())
    assert ended.err == ""
    assert found["ingest"]["accepted"] == 240
    for command in ("ingest", "build", "train", "evaluate", "recommend"):
        assert json.loads(attune(command, "--json").out) == {command: {**found[command], "ran": False}}
    for arguments in (
        ["check"],
        ["releases", "list"],
        ["doctor"],
        ["show", "user", "u1"],
        ["show", "item", "i1"],
    ):
        ended = attune(*arguments, "--json")
        assert ended.code == 0, ended.err
        assert json.loads(ended.out)
        assert ended.err == ""
    for command in ("ingest", "check", "build", "train", "evaluate", "recommend", "run"):
        assert attune(command, "--quiet") == (0, "", "")
        assert command == "check" or attune(command, "--quiet", "--force") == (0, "", "")


def test_an_edited_attune_toml_is_read_again(attune, small):
    assert attune("run", "--quiet").code == 0
    assert pl.read_parquet("workspace/recommendations.parquet")["rank"].max() == 11
    config = Path("attune.toml")
    config.write_text(config.read_text() + "[recommend]\nk = 3\n")
    assert attune("run", "--quiet").code == 0
    assert pl.read_parquet("workspace/recommendations.parquet")["rank"].max() == 3
    config.write_text("[[event]]\n")
    assert "line 1: event: unknown key; did you mean 'events'?" in attune("run").err
    config.unlink()  # the workspace goes by what it remembers
    assert attune("run", "--json").code == 0
    assert Workspace("workspace").settings.recommend.k == 3


def test_a_workspace_run_elsewhere_is_not_taken_over_by_the_file_here(attune, small, monkeypatch):
    assert attune("run", "--quiet").code == 0
    other = small / "other"
    other.mkdir()
    (other / "attune.toml").write_text("[[events]]\npath = 'nothing.csv'\n")
    monkeypatch.chdir(other)
    assert attune("run", "--quiet", "--workspace", small / "workspace") == (0, "", "")


def test_a_workspace_nobody_made_is_told_with_the_command_that_makes_it(attune, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in (["run"], ["check"], ["show", "user", "u"], ["show", "item", "i"], ["serve"]):
        ended = attune(*arguments)
        assert (ended.code, ended.out) == (2, ""), arguments
        assert ended.err.startswith("attune: workspace is no workspace yet; `attune run --config")
    assert not Path("workspace").exists()


def test_two_runs_at_once_do_not_mix(attune, small):
    with Workspace("workspace", "attune.toml").alone():
        ended = attune("run")
        assert ended.code == 2
        assert ended.err == "attune: workspace: another run is at work in it; wait for it\n"
    assert attune("ingest").code == 0


# check, doctor


def test_check_fails_with_one_and_says_what(attune, small):
    (small / "log.csv").write_text("user_id,item_id,event_type,timestamp\nu1,i1,view,2024-01-01\n")
    assert attune("ingest").code == 0
    ended = attune("check")
    assert ended.code == 1
    assert "one user: nothing can be learned from others" in ended.out
    found = json.loads(attune("check", "--json").out)
    assert {f["check"]: f["level"] for f in found}["has_several_users"] == "FAIL"
    ended = attune("run")
    assert ended.code == 2
    assert "check has_several_users: one user" in ended.err


def test_doctor_names_each_part(attune, small):
    ended = attune("doctor")
    assert ended.code == 0
    assert re.search(r"^PASS  configuration  2 recommenders$", ended.out, re.MULTILINE)
    assert re.search(r"^PASS  data           log: 1 files", ended.out, re.MULTILINE)
    assert re.search(
        r"^WARN  workspace      workspace holds no log yet; run `attune run`$", ended.out, re.MULTILINE
    )
    attune("run", "--quiet")
    assert re.search(
        r"^PASS  workspace      release \w+ is active and intact", attune("doctor").out, re.MULTILINE
    )


def test_doctor_fails_where_something_is_broken(attune, small):
    attune("run", "--quiet")
    name = Workspace("workspace").releases.active()
    damaged = small / "workspace" / "releases" / str(name) / "blend.json"
    damaged.write_text(damaged.read_text().replace("5", "6"))
    ended = attune("doctor")
    assert ended.code == 1
    assert re.search(
        r"^FAIL  workspace      .*blend\.json: its content is not what was published", ended.out, re.M
    )
    (small / "log.csv").unlink()
    assert re.search(
        r"^FAIL  data           log: there is no file .*log\.csv$", attune("doctor").out, re.MULTILINE
    )
    (small / "attune.toml").write_text("[[events]]\npth = 'x'\n")
    ended = attune("doctor")
    assert ended.code == 1
    assert re.search(r"^FAIL  configuration  .*line 2: events\.pth: unknown key", ended.out, re.MULTILINE)
    levels = {line["level"] for line in json.loads(attune("doctor", "--json").out)}
    assert "FAIL" in levels


def test_doctor_survives_a_store_that_is_no_database(attune, small):
    attune("ingest", "--quiet")
    for left in (small / "workspace" / "store").iterdir():
        left.unlink()
    (small / "workspace" / "store" / "events.db").write_bytes(b"no database at all" * 100)
    ended = attune("doctor")
    assert ended.code == 1
    assert re.search(r"^FAIL  workspace      .*events\.db: .*not a database", ended.out, re.MULTILINE)
    ended = attune("build")
    assert ended.code == 2
    assert "cannot be used: file is not a database" in ended.err


# releases


def test_releases_are_listed_activated_and_rolled_back(attune, small):
    assert attune("releases", "list").out == "no releases yet; `attune train` makes one\n"
    assert attune("releases", "rollback").code == 2
    attune("run", "--quiet")
    first = Workspace("workspace").releases.active()
    config = Path("attune.toml")
    config.write_text(config.read_text() + "[blend]\nconstant = 9\n")
    attune("run", "--quiet")
    second = Workspace("workspace").releases.active()
    assert first != second
    listed = json.loads(attune("releases", "list", "--json").out)
    assert {(r["release"], r["active"]) for r in listed} == {(first, False), (second, True)}
    assert re.search(rf"^\* {second}  .* as of 2024-01-20", attune("releases", "list").out, re.MULTILINE)
    assert attune("releases", "rollback").out == f"{first} is active\n"
    assert attune("recommend").err.startswith("recommend: 12 users")  # the batch follows the active release
    assert attune("releases", "activate", second).out == f"{second} is active\n"
    ended = attune("releases", "activate", "zebra")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("attune: there is no release 'zebra'; there are [")
    attune("releases", "rollback")
    ended = attune("releases", "rollback")
    assert (ended.code, ended.err) == (2, "attune: there is no earlier release to go back to\n")


# show


def test_show_prints_a_user_and_an_item(attune, finished):
    workspace = Workspace(finished)
    lists = workspace.read("recommendations")
    user, item = lists["user_id"][0], lists["item_id"][0]
    ended = attune("show", "user", user, "--workspace", finished, "-k", 3)
    assert ended.code == 0
    assert f"user {user}" in ended.out
    assert "recommended now" in ended.out
    assert "latest events" in ended.out
    found = json.loads(attune("show", "user", user, "-w", finished, "-k", 3, "--json").out)
    assert [i["rank"] for i in found["recommendations"]] == [1, 2, 3]
    assert found["user_id"] == user
    ended = attune("show", "item", item, "--workspace", finished)
    assert ended.code == 0
    assert "items like it" in ended.out
    assert json.loads(attune("show", "item", item, "-w", finished, "--json").out)["item_id"] == item


def test_show_of_nobody_is_a_line(attune, finished):
    ended = attune("show", "user", "nobody", "--workspace", finished)
    assert ended == (2, "", "attune: nothing is known of user 'nobody'\n")
    ended = attune("show", "item", "nothing", "--workspace", finished)
    assert ended == (2, "", "attune: the active release has no item 'nothing'\n")
    assert attune("show", "user", "u", "-w", finished, "-k", 0).code == 2


def test_an_id_may_begin_with_a_minus(attune, finished):
    ended = attune("show", "user", "-8845298781299428018", "--workspace", finished)
    assert ended.err == "attune: nothing is known of user '-8845298781299428018'\n"


# demo, serve, and how it ends


def test_the_demo_runs_once_and_shows_what_came_out(attune, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = WorldConfig(users=60, items=40, events=1500, days=40)
    monkeypatch.setattr("serving.demo.WorldConfig", lambda: tiny)
    monkeypatch.setattr("serving.demo.SAMPLE_TOML", _without_text())
    first = attune("demo")
    assert first.code == 0, first.err
    assert "Evaluation" in first.out
    assert "attune serve --workspace demo-workspace" in first.out
    user = re.search(r"attune show user (\S+)", first.out)[1]
    assert attune("show", "user", user, "--workspace", "demo-workspace").code == 0
    again = attune("demo")
    assert again.out == first.out
    assert again.err.count("up to date") == 6  # the same sample, byte for byte
    assert attune("demo", "--quiet") == (0, "", "")


def _without_text() -> str:
    from serving.demo import SAMPLE_TOML

    return SAMPLE_TOML.replace("[recommenders.content_text]\n", "[text]\nenabled = false\n")


def test_serve_stays_on_this_machine(attune, small):
    attune("run", "--quiet")
    ended = attune("serve", "--host", "0.0.0.0")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("attune: host 0.0.0.0: without keys the server listens on loopback only")


def test_ctrl_c_ends_with_130_and_a_line(small):
    (small / "attune.toml").write_text(
        (small / "attune.toml").read_text() + "[recommenders.als]\nfactors = 200\niterations = 200000\n"
    )
    run = subprocess.Popen(
        [*ATTUNE, "run"],
        cwd=small,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (small / "workspace" / "snapshots").exists() and run.poll() is None:
        time.sleep(0.02)
    time.sleep(0.5)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (130, "")
    assert err.endswith("attune: interrupted; run the same command again to go on\n")
    assert "Traceback" not in err


def test_the_installed_command_is_this_one(small):
    script = Path(sys.executable).with_name("attune")
    if not script.exists():
        pytest.skip(f"{script} is not installed")
    done = subprocess.run(
        [script, "run"], cwd=small, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Evaluation" in done.stdout
    done = subprocess.run(
        [script, "run", "-c", "no.toml"], cwd=small, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "attune: no.toml: no such file; `attune init` writes one\n"


def test_recommenders_are_listed_and_explained(attune: Callable[..., Ended]) -> None:
    listed = attune("recommenders")
    assert listed.code == 0
    assert "graph_filter" in listed.out
    assert {each["name"] for each in json.loads(attune("recommenders", "--json").out)} >= {"ease", "sasrec"}
    one = attune("recommenders", "ease")
    assert "B = I - P diag(P)^-1" in one.out
    assert "ridge penalty" in one.out
    unknown = attune("recommenders", "eas")
    assert (unknown.code, unknown.out) == (2, "")
    assert "no recommender is called 'eas'" in unknown.err
