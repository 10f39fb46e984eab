"""The folder of a text encoder: safetensors weights, a tokenizer, and how states become one vector.

What is missing, changed or a pickle is refused before anything is parsed. A folder made here has a sealed
manifest (`profiles.manifest`) and says in `attune.json` how it pools; the layout of sentence-transformers
(`modules.json`, `1_Pooling/config.json`) is read too.
"""

import json
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from profiles import manifest
from profiles.schema import ContractError

WEIGHTS = "model.safetensors"
HEAD = "head.safetensors"  # what lies over the body: `attention.weight`, `projection.weight`
RECIPE = "attune.json"
TOKENIZERS = ("tokenizer.json", "vocab.txt", "tokenizer.model", "spiece.model")  # any one will do
FILES = (
    "config.json", WEIGHTS, HEAD, RECIPE, "tokenizer_config.json", "special_tokens_map.json", *TOKENIZERS
)  # fmt: skip
KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")  # of sentence-transformers

Pooling = Literal["mean", "cls", "attention"]


class Recipe(BaseModel):
    """How the states of a text's tokens become its vector."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pooling: Pooling = Field(
        "mean", description="mean of all tokens, the first (cls), or a learned weighing (attention)"
    )
    projection: PositiveInt | None = Field(
        None, description="values of a vector after a linear map; null: as many as the model's states have"
    )
    sizes: tuple[PositiveInt, ...] = Field(
        (), description="lengths a vector may be cut to: it was trained to be good at each (Matryoshka)"
    )


def complete(folder: Path) -> Path:
    """Return the folder if it holds a config, a tokenizer and safetensors weights, as they were sealed."""
    if not (folder / WEIGHTS).is_file() and any(folder.glob("pytorch_model*.bin")):
        raise ContractError(
            f"{folder}: pytorch_model.bin is a pickle and is not loaded, safetensors only: "
            f"convert it to {WEIGHTS}"
        )
    for name in ("config.json", WEIGHTS):
        if not (folder / name).is_file():
            raise ContractError(f"{folder}: {name} is missing, so this is not the folder of a text encoder")
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise ContractError(f"{folder}: the tokenizer is missing, one of {', '.join(TOKENIZERS)}")
    if (folder / manifest.MANIFEST).is_file():
        manifest.verify(folder)
    return folder


def facts(folder: Path) -> dict[str, Any]:
    """Return what the model's config.json says, its `hidden_size` by that name whatever the family."""
    found: dict[str, Any] = _json(folder / "config.json")
    width = next((found[key] for key in ("hidden_size", "dim", "d_model") if key in found), None)
    if width is None:
        raise ContractError(f"{folder}/config.json: no hidden_size, so the width is unknown")
    return found | {"hidden_size": int(width)}


def recipe_of(folder: Path) -> Recipe:
    """Return how the folder says its states are pooled; the mean where it says nothing.

    Raises ContractError where it asks for something else than is known here: other vectors would be wrong.
    """
    if (folder / RECIPE).is_file():
        try:
            return Recipe.model_validate(_json(folder / RECIPE))
        except ValidationError as error:
            found = error.errors()[0]
            place = ".".join(map(str, found["loc"]))
            raise ContractError(f"{folder / RECIPE}: {place}: {found['msg']}") from None
    if not (folder / "modules.json").is_file():
        return Recipe()
    modules: Any = _json(folder / "modules.json", list)
    for module in modules:
        if (kind := str(module.get("type", "")).split(".")[-1]) not in KNOWN_MODULES:
            raise ContractError(
                f"{folder}/modules.json: a module {kind!r} is not known here, only {', '.join(KNOWN_MODULES)}"
            )
    pools = [folder / str(m.get("path")) / "config.json" for m in modules if "Pooling" in str(m.get("type"))]
    return Recipe(pooling=_pooling(pools[0])) if pools else Recipe()


def _pooling(path: Path) -> Literal["mean", "cls"]:
    told = _json(path)
    modes = told.get("pooling_mode") or [
        name.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for name, wanted in told.items()
        if name.startswith("pooling_mode_") and wanted
    ]
    modes = [modes] if isinstance(modes, str) else modes
    if modes == ["mean"] or modes == ["cls"]:
        return "mean" if modes == ["mean"] else "cls"
    raise ContractError(f"{path}: pools by {' and '.join(modes) or 'nothing'}; known here are mean and cls")


def download(name: str) -> Path:
    """Return the folder of a hub model: the copy on disk where it is complete, else a fresh one."""
    from huggingface_hub import snapshot_download

    from nlp.network import quiet

    try:
        return complete(Path(snapshot_download(name, local_files_only=True)))
    except (OSError, ValueError):  # not there, or not all of it
        pass
    patterns = [*FILES, "modules.json", "*_Pooling/config.json"]
    try:
        with quiet():
            folder = Path(snapshot_download(name, allow_patterns=patterns))
    except (OSError, ValueError) as error:
        raise ContractError(f"text encoder {name!r} cannot be downloaded: {error}") from error
    return complete(folder)


def digest(folder: Path) -> str:
    """Return 16 hexadecimal digits that change with any file the vectors depend on."""
    files = [path for name in sorted(FILES) if (path := folder / name).is_file()]
    told = [f"{path.name} {_sha256(path, path.stat().st_size, path.stat().st_mtime_ns)}" for path in files]
    return sha256("\n".join(told).encode()).hexdigest()[:16]


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, modified: int) -> str:
    """Return the SHA-256 of a file; size and time are there to notice that it changed."""
    return manifest.sha256(path)


def _json(path: Path, kind: type = dict) -> Any:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ContractError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(found, kind):
        raise ContractError(f"{path}: not a JSON {'object' if kind is dict else 'array'}")
    return found
