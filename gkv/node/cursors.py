"""Cursors, the texts that name a place in the order of records: 16 hexadecimal digits of a token, and a key. With no key they
stand before all keys of that token. That at the beginning is empty, that at the end None. Pure.
"""

Position = tuple[int, str]
"""Token and key. A key has at least a character, so (token, "") stands before all of that token."""
END = (1 << 64, "")
"""The position behind all."""
_TOKEN = 16
"""Digits of a token."""


def position_of(cursor: str) -> Position:
    """Return the position of a cursor that is not the end's."""
    return (int(cursor[:_TOKEN], 16), cursor[_TOKEN:]) if cursor else (0, "")


def cursor_of(position: Position) -> str | None:
    """Return the cursor of a position."""
    return None if position >= END else f"{position[0]:016x}{position[1]}"
