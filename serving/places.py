"""Where each table, key and list element of a TOML text stands, for messages about it.

Read only after `tomllib` has accepted the text: what is malformed is its business.
"""

import re

Place = tuple[str | int, ...]

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|' + r"'''.*?'{3,5}|" + r'"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*'|"
    r"#[^\n]*|[\[\]{},=.\n]|[^\s\[\]{},=.\"'#]+",
    re.DOTALL,
)


def places(text: str) -> dict[Place, int]:
    """Map each place, such as ("events", 0, "columns", "user_id"), to the number of its line."""
    return _Reader(text).places


def line_of(lines: dict[Place, int], place: Place) -> int:
    """Return the line of a place, or of the nearest thing around it."""
    return next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), 1)


class _Reader:
    def __init__(self, text: str) -> None:
        self.places: dict[Place, int] = {}
        self._tokens: list[tuple[str, int]] = []
        line, end = 1, 0
        for found in _TOKEN.finditer(text):
            line += text.count("\n", end, found.start())
            end = found.start()
            if not found[0].startswith("#"):
                self._tokens.append((found[0], line))
        self._at = 0
        self._statements()

    def _statements(self) -> None:
        table: Place = ()
        last: dict[Place, int] = {}  # the newest element of each array of tables
        while self._at < len(self._tokens):
            token, line = self._tokens[self._at]
            if token == "\n":
                self._at += 1
            elif token == "[":
                repeated = self._tokens[self._at + 1][0] == "["
                self._at += 1 + repeated
                table = ()
                for part in self._key("]"):
                    table = (*table, part)
                    if table in last:
                        table = (*table, last[table])
                if repeated:
                    name = table[:-1] if table and isinstance(table[-1], int) else table
                    last[name] = last.get(name, -1) + 1
                    table = (*name, last[name])
                    self.places.setdefault(name, line)
                self._at += 1 + repeated
                self.places.setdefault(table, line)
            else:
                self._pair(table)

    def _key(self, end: str) -> list[str]:
        """Read the parts of a dotted key up to `end`, which is left."""
        parts = []
        while (token := self._tokens[self._at][0]) != end:
            if token != ".":
                parts.append(token[1:-1] if token[0] in "\"'" else token)
            self._at += 1
        return parts

    def _pair(self, table: Place) -> None:
        line = self._tokens[self._at][1]
        place = (*table, *self._key("="))
        self._at += 1
        for size in range(len(table) + 1, len(place) + 1):
            self.places.setdefault(place[:size], line)
        self._value(place)

    def _value(self, place: Place) -> None:
        opening = self._tokens[self._at][0]
        if opening not in ("[", "{"):
            while self._at < len(self._tokens) and self._tokens[self._at][0] not in (",", "]", "}", "\n"):
                self._at += 1
            return
        self._at += 1
        element = 0
        while (token := self._tokens[self._at])[0] not in ("]", "}"):
            if token[0] in (",", "\n"):
                self._at += 1
            elif opening == "{":
                self._pair(place)
            else:
                self.places[(*place, element)] = token[1]
                self._value((*place, element))
                element += 1
        self._at += 1
