"""`${NAME}` in paths and addresses: filled in from the environment, so that secrets stay out of files."""

import os
import re
from collections.abc import Callable

from profiles.schema import ContractError

VARIABLE = re.compile(r"\$\{(\w+)\}")


def unset(text: str) -> list[str]:
    """Return the variables a text names that are not set."""
    return [name for name in VARIABLE.findall(text) if name not in os.environ]


def expanded(text: str) -> str:
    """Return a text with its variables filled in; raises ContractError naming one that is not set."""
    if missing := unset(text):
        raise ContractError(f"{text} names ${{{missing[0]}}}, which is not set in the environment")
    return filled(text)


def filled(text: str, quoted: Callable[[str], str] = str) -> str:
    """Return a text with its variables, all of them set, filled in as `quoted` makes them."""
    return VARIABLE.sub(lambda found: quoted(os.environ[found[1]]), text)
