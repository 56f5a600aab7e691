"""Group commit: what goes together, what waits for what, and what happens when it fails."""

from gkv.model import Effect

NOW = 1_000_000


def did(letters):
    """Return the effects of a write, a letter for each key."""
    return [Effect(letter) for letter in letters] if letters else ()
