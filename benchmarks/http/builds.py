"""Two builds of gkv against each other: CPU per request, as the median of the ratios of interleaved pairs of runs.

    python benchmarks/http/builds.py --other OTHER/.venv/bin/python [--rounds 10] [--seconds 2] [--n 1,10,100] [--ops get,set]
                                     [--engine memory] [--json bench-builds.json]

`--other` is the Python of a virtual environment with the other build: a clone of an earlier commit, say. Both builds
run side by side, each with a proxy and two nodes, hold the same keys and are loaded by wrk in turn, as in `run.py`; the
one that goes first changes with each round. A ratio below 1 says that this build takes less CPU than the other. The
machine should do nothing else.
"""

import argparse
import json
import shutil
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from pairs import add_options, measure_pairs, table
from run import machine, say
from systems import PORTS, StartError, gkv

THIS, OTHER = "this", "other"


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--other", required=True, help="the Python of a virtual environment with the other build")
    add_options(parser, "memory", 18_180, "half a dozen")
    return parser.parse_args()


def main() -> int:
    """Run the benchmark; return the exit code."""
    options = read_options()
    if shutil.which("wrk") is None:
        say("wrk is not installed: apt-get install wrk")
        return 1
    line = machine()
    print(f"# {line}")
    try:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gkv-bench-")))
            systems = {}
            for i, (name, python) in enumerate(((THIS, sys.executable), (OTHER, options.other))):
                (directory / name).mkdir()
                started = stack.enter_context(gkv(options.port + i * PORTS, directory / name, options.engine, python=python))
                started.check()
                systems[name] = replace(started, name=name)
            runs = measure_pairs(systems[THIS], systems[OTHER], options)
    except StartError as error:
        say(str(error))
        return 1
    print(f"\n{table(runs, THIS, OTHER, options)}")
    if options.json:
        Path(options.json).write_text(json.dumps({"machine": line, "runs": [asdict(run) for run in runs]}, indent=1) + "\n")
    return 0 if all(run.valid for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
