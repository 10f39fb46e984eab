"""The rules of the house, read from the source: who imports whom, names, sizes, what is never used."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("profiles", "recsys", "nlp", "serving")
DOWNHILL = {
    "profiles": {"profiles"},
    "recsys": {"recsys", "profiles"},
    "nlp": {"nlp", "profiles"},
    "serving": set(PACKAGES),
}
# What knows no recommender and loads no torch before a fit begins, so that nlp may take it.
NLP_MAY_TAKE = {
    f"recsys.{name}"
    for name in (
        "split",
        "metrics",
        "significance",
        "space",
        "tuning",
        "plots",
        "ranking",
        "training",
        "watch",
        "optimizing",
    )
}
BANNED = re.compile(r"_?(utils?|commons?|cores?|helpers?|bases?|miscs?|managers?)", re.IGNORECASE)
PICKLES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}
UNPICKLING = {"torch.load", "pandas.read_pickle", "pd.read_pickle"}
HEAVY = {"torch", "transformers", "torch_geometric", "implicit"}
LINES = 400
# Methods a framework declares and documents.
DECLARED_ELSEWHERE = {"forward", "settings_customise_sources", "model_post_init"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def sources() -> dict[str, ast.Module]:
    """Return every module of the four packages by its dotted name."""
    return {module_name(path): ast.parse(path.read_text(), str(path)) for path in files()}


def files() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """Yield (module, name taken from it or None) of every import, also of those inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: write the import from the package down"
            yield from ((node.module, alias.name) for alias in node.names)


def taken(tree: ast.AST) -> set[str]:
    """Return the modules imported, a package's module counted as itself however it is imported."""
    known = sources()
    return {
        f"{module}.{name}" if name and f"{module}.{name}" in known else module
        for module, name in imported(tree)
    }


def dotted(node: ast.AST) -> str:
    """Return `a.b.c` of an attribute chain, or nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (left := dotted(node.value)):
        return f"{left}.{node.attr}"
    return ""


def test_there_is_something_to_check():
    modules = set(sources())
    for package in PACKAGES:
        assert len([m for m in modules if m.startswith(f"{package}.")]) > 2, package


# Who imports whom


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_downhill(package):
    wrong = []
    for name, tree in sources().items():
        if name.split(".")[0] != package:
            continue
        ours = {
            module for module in taken(tree) if module.split(".")[0] in (*PACKAGES, "tests", "benchmarks")
        }
        allowed = {module for module in ours if module.split(".")[0] in DOWNHILL[package]}
        if package == "nlp":
            allowed |= NLP_MAY_TAKE
        wrong += [f"{name} imports {module}" for module in sorted(ours - allowed)]
    assert not wrong


def test_imports_make_no_circle():
    """Follow what modules import when they are loaded; imports inside functions may point back."""
    known = sources()
    edges = {}
    for name, tree in known.items():
        top = ast.Module([n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], [])
        edges[name] = {module for module in taken(top) if module in known and module != name}
    done: set[str] = set()
    while ready := {name for name, needs in edges.items() if name not in done and needs <= done}:
        done |= ready
    assert not sorted(set(edges) - done)


def loaded_by(statement: str) -> set[str]:
    script = f"{statement}\nimport sys\nprint(*sorted(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    return {name.split(".")[0] for name in run.stdout.split()}


def test_the_application_starts_light():
    assert (ROOT / "serving" / "app.py").exists(), "serving/app.py is the API application"
    loaded = loaded_by("import serving.app")
    assert "fastapi" in loaded
    assert not loaded & HEAVY


def test_the_registry_of_recommenders_loads_none_of_their_trainers():
    loaded = loaded_by("import recsys.models")
    assert "recsys" in loaded
    assert not loaded & HEAVY


# Classes


@cache
def classes() -> dict[str, tuple[ast.ClassDef, tuple[str, ...]]]:
    """Return each class of ours by `module.Name`, with those of its bases that are ours."""
    found: dict[str, tuple[ast.ClassDef, ast.Module, str]] = {}
    for module, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found[f"{module}.{node.name}"] = (node, tree, module)
    result = {}
    for full, (node, tree, module) in found.items():
        names = {}
        for imports in ast.walk(tree):
            if isinstance(imports, ast.Import | ast.ImportFrom):
                for alias in imports.names:
                    source = getattr(imports, "module", None)
                    names[alias.asname or alias.name] = f"{source}.{alias.name}" if source else alias.name
        bases = []
        for base in node.bases:
            text = dotted(base.value if isinstance(base, ast.Subscript) else base)
            first, _, rest = text.partition(".")
            whole = names.get(first, f"{module}.{first}")
            bases.append(f"{whole}.{rest}" if rest else whole)
        result[full] = (node, tuple(base for base in bases if base in found))
    return result


def test_inheritance_is_one_deep():
    known = classes()
    assert "recsys.recommender.Recommender" in known["recsys.models.ease.EASE"][1]
    deep = [
        f"{name} < {base} < {further}"
        for name, (_, bases) in known.items()
        for base in bases
        for further in known[base][1]
    ]
    assert not deep


# Names and sizes


def test_no_file_is_named_after_nothing():
    named = [path.relative_to(ROOT) for path in files()]
    parts = {part for path in named for part in (*path.parts[:-1], path.stem)}
    assert not [part for part in sorted(parts) for word in part.split("_") if BANNED.fullmatch(word)]


def test_files_are_short():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files()}
    assert not {name: length for name, length in lengths.items() if length > LINES}


def test_tests_are_no_packages_and_have_names_of_their_own():
    assert not list((ROOT / "tests").rglob("__init__.py"))
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(names) > 5
    assert not [name for name, count in names.items() if count > 1]


# What is never used


def test_nothing_is_pickled():
    wrong = []
    for name, tree in sources().items():
        for module, taken_ in imported(tree):
            whole = f"{module}.{taken_}" if taken_ else module
            if module.split(".")[0] in PICKLES or whole in UNPICKLING:
                wrong.append(f"{name} imports {whole}")
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and (
                dotted(node) in UNPICKLING or node.attr in ("read_pickle", "to_pickle")
            ):
                wrong.append(f"{name}, line {node.lineno}: {dotted(node)}")
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                value = node.value
                if not (isinstance(value, ast.Constant) and value.value is False):
                    wrong.append(f"{name}, line {value.lineno}: allow_pickle")
    assert not wrong


# Docstrings


def is_property(node: Function) -> bool:
    names = {dotted(d.func if isinstance(d, ast.Call) else d).split(".")[-1] for d in node.decorator_list}
    return bool(names & {"property", "cached_property", "setter", "overload"})


def public(name: str) -> bool:
    return not name.startswith("_")


def undocumented_methods(full: str, node: ast.ClassDef, bases: tuple[str, ...]) -> Iterator[str]:
    inherited = {
        method.name
        for base in bases
        for method in classes()[base][0].body
        if isinstance(method, Function) and ast.get_docstring(method)
    }
    for method in node.body:
        if not isinstance(method, Function) or not public(method.name) or is_property(method):
            continue
        if method.name in inherited | DECLARED_ELSEWHERE or ast.get_docstring(method):
            continue
        yield f"{full}.{method.name}"


def test_everything_public_has_a_docstring():
    """A class of ours made from a documented one of ours may do without, and so may what overrides."""
    missing = []
    for module, tree in sources().items():
        if tree.body and not ast.get_docstring(tree):
            missing.append(module)
        functions = [node for node in tree.body if isinstance(node, Function) and public(node.name)]
        missing += [f"{module}.{node.name}" for node in functions if not ast.get_docstring(node)]
    for full, (node, bases) in classes().items():
        if not public(node.name):
            continue
        documented = any(ast.get_docstring(classes()[base][0]) for base in bases)
        if not ast.get_docstring(node) and not documented:
            missing.append(full)
        missing += undocumented_methods(full, node, bases)
    assert not missing
