"""Optional packages, asked for where they are needed, with the install command where they are missing."""

from importlib import import_module
from typing import Any

from profiles.schema import ContractError


def need(module: str, extra: str) -> Any:
    """Return a module of an optional package; raises ContractError naming the extra that brings it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ContractError(
            f"{module.partition('.')[0]} is not installed: run pip install 'attune[{extra}]'"
        ) from error
