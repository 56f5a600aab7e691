"""Group commit: what goes together, what waits for what, and what happens when it fails."""

import os
import shutil
import threading
import time
from contextlib import suppress

import gevent
import pytest

from gkv.engine import backlog, commit
from gkv.engine.commit import Commits
from gkv.engine.engine import no_call
from gkv.engine.lmdb import LmdbEngine
from gkv.engine.memory import MemoryEngine
from gkv.errors import EngineError, EngineFailed, EngineFull, NotOnDisk, OutOfRoom, SnapshotRunning, Unavailable
from gkv.model import Effect, Version, Write
from gkv.ring import tokens
from gkv.threads import NativeThread

NOW = 1_000_000


def did(letters):
    """Return the effects of a write, a letter for each key."""
    return [Effect(letter) for letter in letters] if letters else ()
