"""The one harness: rows measured or remembered, a table for a person, one JSON line for a machine.

A benchmark is a module with a `plan(args)`: its rows, what they need first, and what they are compared
with. A row and its peer are timed in turn (peer, row, peer, row, peer …), so that a ratio always comes
from one run on one machine. Finished rows are remembered by a hash of everything they depend on.
"""

import argparse
import inspect
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.process import ROOT, Failed, Figures, Limits, NotReached, OverLimit, Task, run
from profiles import manifest, threads

KEPT = ROOT / ".benchmarks"
LIBRARIES = ("duckdb", "numpy", "pandas", "polars", "pyarrow", "scipy", "sqlalchemy", "torch")
UNTABLED = ("name", "reason", "runs", "covers")  # too long for a column of the table


@dataclass(frozen=True)
class Row:
    """One thing measured."""

    name: str
    task: Task
    figures: tuple[str, ...]  # what the row promises: null with a reason where it cannot be had
    measured: tuple[str, ...] = ()  # packages or files, from the root, whose change makes the row stale
    needs: tuple[Task, ...] = ()  # run first, each once, in processes of their own
    peer: "Row | None" = None  # timed in turn with this row; `ratio` says how much better this one is
    compared: str = "seconds"  # the figure of the ratio; larger is better where it ends with _per_s
    repeats: int = 1  # runs whose median counts
    facts: Mapping[str, Any] = field(default_factory=dict)  # shown as they are, as selection = "fixed"
    skipped: str = ""  # why the row is not measured in this plan


@dataclass(frozen=True)
class Plan:
    """What one command measures: the rows of a benchmark over some data."""

    data: Mapping[str, int]  # users, items, events or interactions
    rows: Sequence[Row]


class Benchmark:
    """The command line of one benchmark."""

    def __init__(
        self,
        name: str,
        description: str,
        plan: Callable[[argparse.Namespace], Plan],
        options: Callable[[argparse.ArgumentParser], None] = lambda _: None,
    ) -> None:
        self.name = name
        self._plan = plan
        self.parser = argparse.ArgumentParser(f"python -m benchmarks.{name}", description=description)
        add = self.parser.add_argument
        add("--data", type=_folder, default=KEPT / "data", help="where the data is, or is made: %(default)s")
        add("--rows", help="names of the rows to measure, by commas; default: all")
        add("--quick", action="store_true", help="tiny sizes: shows that it runs, the figures mean nothing")
        add("--fresh", action="store_true", help="measure again what is remembered")
        add("--seed", type=int, default=0, help="of simulated data and drawn samples")
        add("--threads", type=count, help="threads to use; default: all cores")
        add("--kept", type=_folder, default=KEPT / "rows", help="where finished rows are kept: %(default)s")
        add("--memory-gb", type=float, help="end a row that takes more; default: 0.9 of this machine's")
        add("--timeout", type=float, default=Limits.seconds, help="seconds after which a row is ended")
        options(self.parser)

    def main(self, argv: Sequence[str] | None = None) -> None:
        """Measure what the command line asks for; exits with 1 where a row failed."""
        args = self.parser.parse_args(argv)
        if args.threads is not None:
            threads.use(args.threads)
        plan = self._plan(args)
        known = [row.name for row in plan.rows]
        wanted = known if args.rows is None else list(dict.fromkeys(n.strip() for n in args.rows.split(",")))
        if unknown := [name for name in wanted if name not in known]:
            self.parser.error(f"there is no row {unknown[0]!r} in {self.name}; it has {', '.join(known)}")
        limits = (
            Limits(seconds=args.timeout) if args.memory_gb is None else Limits(args.memory_gb, args.timeout)
        )
        session = Session(self.name, args.kept, limits, args.fresh)
        rows = {row.name: session.finished(row) for row in plan.rows if row.name in wanted}
        # A peer shown beside a row is the one that row was timed in turn with.
        rows = {name: session.latest.get(name, found) for name, found in rows.items()}
        print(table([rows[name] for name in wanted]))
        print(
            json.dumps(
                {
                    "benchmark": self.name,
                    "data": dict(plan.data),
                    "seed": args.seed,
                    "quick": args.quick,
                    "threads": threads.available(),
                    "versions": versions(),
                    "rows": [rows[name] for name in wanted],
                },
                allow_nan=False,
            )
        )
        if session.failed:
            sys.exit(1)


class Session:
    """One run of a benchmark: measures a row, or recalls it."""

    def __init__(self, benchmark: str, kept: Path, limits: Limits, fresh: bool) -> None:
        self.failed = False
        self.latest: dict[str, Figures] = {}  # rows measured or recalled so far
        self._folder = kept / benchmark
        self._limits = limits
        self._fresh = fresh
        self._done: set[str] = set()  # needs that are met

    def finished(self, row: Row) -> Figures:
        """Return a row as it is printed: name, facts, figures, and null with a reason for those missing."""
        found: Figures
        place = self._folder / f"{row.name}-{_key(row)}.json"
        if row.name in self.latest:
            return self.latest[row.name]
        if row.skipped:
            found = _row(row, [], NotReached(row.skipped))
        elif place.exists() and not self._fresh:
            found = json.loads(place.read_bytes())
            _say(f"{row.name}: remembered")
        else:
            found = self._measured(row)
        self.latest[row.name] = found
        return found

    def _measured(self, row: Row) -> Figures:
        """Measure a row, its peer in turn with it, and keep both unless one failed."""
        runs: list[Figures] = []
        peers: list[Figures] = []
        problems: dict[str, NotReached] = {}

        def once(of: Row, into: list[Figures]) -> None:
            if of.name not in problems:
                try:
                    into.append(self._run(of))
                except NotReached as reason:
                    problems[of.name] = reason

        if row.peer is not None:
            once(row.peer, peers)
        for _ in range(row.repeats):
            once(row, runs)
            if row.peer is not None and row.name not in problems:
                once(row.peer, peers)
        found = _row(row, runs, problems.get(row.name))
        if row.peer is not None:
            self.latest[row.peer.name] = peer = _row(row.peer, peers, problems.get(row.peer.name))
            found |= _compared(row, found, peer)
            self._keep(row.peer, peer, problems)
        self._keep(row, found, problems)
        return found

    def _run(self, row: Row) -> Figures:
        for need in (*row.needs, row.task):
            key = need.spelled
            if need is not row.task and key in self._done:
                continue
            _say(f"{row.name}: {need.function.__name__} …")
            found = run(need, self._limits)
            _say(f"{row.name}: {_line(found)}")
            self._done.add(key)
        return found

    def _keep(self, row: Row, found: Figures, problems: Mapping[str, NotReached]) -> None:
        concerned = [problems.get(r.name) for r in (row, row.peer) if r is not None]
        self.failed |= any(isinstance(problem, Failed) for problem in concerned)
        if any(isinstance(problem, Failed | OverLimit) for problem in concerned):
            return  # another try, or another limit, may give another answer
        content = json.dumps(found, allow_nan=False).encode()
        manifest.write_atomically(self._folder / f"{row.name}-{_key(row)}.json", content)


def table(rows: Sequence[Figures]) -> str:
    """Return rows as an aligned table, the reasons of what is missing under it."""
    columns = dict.fromkeys(c for row in rows for c in row if c not in UNTABLED)
    lines = [["row", *columns]]
    lines += [[row["name"], *(_cell(row[c]) if c in row else "" for c in columns)] for row in rows]
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    drawn = [
        "  ".join(
            [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    ]
    drawn.insert(1, "  ".join("-" * width for width in widths))
    notes = [f"{row['name']}: {row[what]}" for row in rows for what in ("covers", "reason") if what in row]
    return "\n".join([*(line.rstrip() for line in drawn), *notes])


def public(parser: argparse.ArgumentParser) -> None:
    """Read public data where ATTUNE_DATA says, unless told otherwise."""
    if folder := os.environ.get("ATTUNE_DATA"):
        parser.set_defaults(data=Path(folder))


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries a figure may hang on."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def _key(row: Row) -> str:
    """Hash what a row's figures depend on; of a path only its name counts, so data may be moved."""
    asked = [
        (t.function.__name__, {k: v.name if isinstance(v, Path) else v for k, v in t.parameters.items()})
        for t in (*row.needs, row.task)
    ]
    peer = None if row.peer is None else _key(row.peer)
    places = [Path(inspect.getfile(row.task.function)), ROOT / "benchmarks" / "process.py"]
    code = [_code(place) for place in (*places, *(ROOT / name for name in row.measured))]
    return manifest.content_key(
        row.name, asked, row.figures, row.compared, row.repeats, dict(row.facts), peer, code, versions(),
        threads.available(),
    )  # fmt: skip


def _code(place: Path) -> list[str]:
    """Hash a source file, or every file of a package's source."""
    if not place.exists():
        raise FileNotFoundError(f"{place}: a row names it as measured, and it is not there")
    files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.suffix in (".py", ".sql"))
    return [f"{file.relative_to(place.parent)} {manifest.sha256(file)}" for file in files]


def _row(row: Row, runs: Sequence[Figures], problem: NotReached | None) -> Figures:
    """Put the runs of a row together: medians of what was timed, the largest peak."""
    found: Figures = {"name": row.name, **row.facts}
    if problem is not None:
        return found | dict.fromkeys((*row.figures, "peak_mb")) | {"reason": str(problem)}
    found |= {name: _middle(name, [run[name] for run in runs]) for name in runs[0]}
    if len(runs) > 1:
        found["runs"] = [run[row.compared] for run in runs]
    missing = [name for name in row.figures if found.setdefault(name, None) is None and name != "ratio"]
    if missing:
        found.setdefault("reason", f"does not say {', '.join(missing)}")
    return found


def _middle(name: str, values: list[Any]) -> Any:
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return values[-1]
    if name == "peak_mb":
        return max(values)
    return values[0] if len(set(values)) == 1 else statistics.median(values)


def _compared(row: Row, found: Figures, peer: Figures) -> Figures:
    """Return the ratio to the peer, better-is-larger, and the peer's own figure."""
    assert row.peer is not None
    own, other = found.get(row.compared), peer.get(row.compared)
    about = {"peer": row.peer.name, f"peer_{row.compared}": other}
    if not own or not other:
        reason = found.get("reason") or f"{row.peer.name}: {peer.get('reason', 'no figure')}"
        return about | {"ratio": None, "reason": reason}
    return about | {"ratio": own / other if row.compared.endswith("_per_s") else other / own}


def _line(figures: Figures) -> str:
    return ", ".join(f"{name} {_cell(value)}" for name, value in figures.items() if name not in UNTABLED)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def count(text: str) -> int:
    """Read a number from 1 of the command line; 100_000_000 may be written so."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return number


def _folder(name: str) -> Path:
    return Path(name).expanduser().resolve()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
