"""The rules of the LMDB engine, each with a test that fails when it is taken out."""

import errno
import os
import shutil
import subprocess
import sys
import threading
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import lmdb
import pytest

from gkv.engine import environment as environment_module
from gkv.engine.directory import RESERVE
from gkv.engine.environment import Environment
from gkv.engine.lmdb import LmdbEngine
from gkv.engine.room import MIN_MAP
from gkv.errors import EngineError, EngineFailed, EngineFull, OutOfRoom, SnapshotRunning
from gkv.model import Damage, Effect, Version, Write
from gkv.ring import tokens

NOW = 1_000_000
ALL = (1 << 64) - 1


def did(letters):
    """Return the effects of a write, a letter for each key."""
    return [Effect(letter) for letter in letters]
