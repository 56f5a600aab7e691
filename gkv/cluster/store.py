"""The place where the authority keeps the document: a file now, which one process has to itself.

Promises: what `replace_if` has put there is on disk, whatever happens next; a file that cannot be read as a document is never
overwritten. `replace_if` blocks until the disk has answered. Leaves to others: when a document is in force.
"""

from pathlib import Path
from typing import Protocol

import ujson

from gkv.cluster.document import Document
from gkv.errors import ConfigError, Unavailable
from gkv.files import Lock, make_directory, replace_by_spare


class Store(Protocol):
    """What an authority needs of the place where the document is kept."""

    def load(self) -> Document | None:
        """Return the document, None when there has never been one."""

    def replace_if(self, known: Document | None, document: Document) -> bool:
        """Put a document in the place of the one that is known; return False when that is not there any more."""

    def watch(self, known: Document) -> Document | None:
        """Return a document that somebody else has put in the place of the one that is known."""

    def close(self) -> None:
        """Give the place up."""


class FileStore:
    """`cluster.json` in a directory that one process owns."""

    def __init__(self, directory: Path) -> None:
        """Lock the directory. Raise Unavailable when another process has it or it cannot be used."""
        self.path = directory / "cluster.json"
        try:
            make_directory(directory)
            self._lock = Lock(directory / "lock")
        except BlockingIOError:
            raise Unavailable(f"another gkv-proxy uses the data directory {directory}") from None
        except OSError as error:
            raise Unavailable(f"the data directory {directory} cannot be used: {error.strerror}") from None
        self._kept: Document | None = None

    def load(self) -> Document | None:
        """Raise ConfigError when the file cannot be read as a document, Unavailable when not at all."""
        try:
            self._kept = Document.from_json(ujson.loads(self.path.read_bytes()))
        except FileNotFoundError:
            self._kept = None
        except OSError as error:
            raise Unavailable(f"{self.path} cannot be read: {error.strerror}") from None
        except (ValueError, AttributeError) as error:
            raise ConfigError(
                f"{self.path} cannot be read: {error}. Put the copy from a backup in its place; or take it away, and the "
                f"document is rebuilt from those that the members have"
            ) from None
        return self._kept

    def replace_if(self, known: Document | None, document: Document) -> bool:
        """Raise OSError when it cannot be written; a full disk is no reason, once there has been a change before, but it is one
        that another directory has come to this path.
        """
        if known != self._kept:
            return False
        self._lock.check()
        content = ujson.dumps(document.to_json(), indent=2, escape_forward_slashes=False).encode()
        replace_by_spare(self.path, content)
        self._kept = document
        return True

    def watch(self, known: Document) -> Document | None:
        """Return None: nobody else writes the file."""
        return None if known == self._kept else self._kept

    def close(self) -> None:
        self._lock.release()
