"""The rules of the LMDB engine, each with a test that fails when it is taken out."""

from gkv.model import Effect

NOW = 1_000_000
ALL = (1 << 64) - 1


def did(letters):
    """Return the effects of a write, a letter for each key."""
    return [Effect(letter) for letter in letters]
