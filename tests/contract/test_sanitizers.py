"""csrc/ under the address and undefined-behaviour sanitizers: no read or write past a given length, whatever the body.

The driver is `sanitize.c`; the cases are made here. GKV_FUZZ_SEED and GKV_SANITIZE_CASES give it other ones, and more.
"""

import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.bodies import Bodies

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
SOURCES = [HERE / "sanitize.c", *(CSRC / name for name in ("murmur3.c", "ring.c", "json.c", "scan.c", "route.c"))]
FLAGS = ["-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# Leaks are not looked for, which needs ptrace: the functions promise to allocate nothing.
ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1"}

SEED = int(os.environ.get("GKV_FUZZ_SEED", "8259"))
CASES = int(os.environ.get("GKV_SANITIZE_CASES", "40000"))


def compile_with_sanitizers(compiler: str, sources: list[Path], program: Path) -> subprocess.CompletedProcess[str]:
    command = [compiler, *FLAGS, f"-I{CSRC}", *map(str, sources), "-o", str(program)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def run(program: Path, *args: Path) -> subprocess.CompletedProcess[str]:
    command = [str(program), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | ENVIRONMENT)


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a compiler whose programs run with the sanitizers."""
    found = shutil.which(os.environ.get("CC", "cc"))
    if found is None:
        pytest.skip("no C compiler")
    directory = tmp_path_factory.mktemp("probe")
    source = directory / "probe.c"
    source.write_text("int main(void) { return 0; }\n", encoding="ascii")
    if compile_with_sanitizers(found, [source], directory / "probe").returncode != 0:
        pytest.skip("the C compiler has no address and undefined-behaviour sanitizers")
    ran = run(directory / "probe")
    if ran.returncode != 0:
        pytest.skip(f"a program with the sanitizers does not run here: {ran.stderr[-200:]}")
    return found


@pytest.fixture(scope="module")
def driver(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("driver") / "sanitize"
    compiled = compile_with_sanitizers(compiler, SOURCES, program)
    assert compiled.returncode == 0, compiled.stderr
    return program


LONG = [
    ("set", b'[{"key":"a","value":%b}]' % (b"[" * 64 + b"]" * 64)),
    ("set", b'[{"key":"a","value":%b' % (b"[" * 70)),
    ("set", b'[{"key":"a","value":%b' % (b'{"a":' * 70)),
    ("set", b'[{"key":"a","value":{%b}}]' % b",".join([b'"%d":0' % i for i in range(70)])),
    ("set", b'[{"key":"a","value":%b' % ((b"{%b," % b",".join([b'"%d":0' % i for i in range(63)]) + b'"x":') * 5)),
    ("set", b'[{"key":"a","value":"%b"},{"key":"b","value":"\\ud83d\\ude00%b"}]' % (b"x" * 3000, "é€😀".encode() * 300)),
    ("get", b"[" + b",".join([rb'{"key":"\u0001\ud83d\ude00%d"}' % i for i in range(100)]) + b"]"),
    ("get", rb'[{"key":"%b"},{"\u006bey":"%b"}]' % (rb"\u0061" * 480, rb"\u0061" * 481)),
    ("get", rb'[{"key":"%b"}]' % (rb"\u20ac" * 340)),
    ("set", b'[{"key":"a","value":"%b"}]' % (b"x" * (1 << 20))),
    ("get", b'[{"key":"%b"},{"key":"%b"}]' % (b"k" * 480, b"k" * 481)),
    ("get", b"[" + b",".join([b'{"key":"user:%d"}' % i for i in range(300)]) + b"]"),
    ("set", b"[" + b",".join([b'{"key":"user:%d","value":%d}' % (i, i) for i in range(300)]) + b"]"),
]
HEAD = b'{"sizes":['


def corpus(seed: int, cases: int) -> Iterator[bytes]:
    """Yield bodies: those of the grammar and their mutations; every beginning of some; and what comes close to the limits."""
    bodies = Bodies(seed)
    made = 0
    for _, body in LONG:
        yield body
        made += 1
        for _ in range(100):
            yield bodies.mutated(body)
            made += 1
    while made < cases:
        _, body = bodies.next()
        yield body
        made += 1
        if made % 300 < 2:
            for cut in range(len(body)):
                yield body[:cut]
            made += len(body)


def tail(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.1:
        return b""
    if kind < 0.5:
        sizes = b",".join([rng.choice([b"-1", b"0", b"1", b"2", b"01", b"-", b"4294967295"]) for _ in range(rng.randrange(5))])
        return HEAD + sizes + rng.choice([b"]}\n", b"]}", b"]", b""]) + rng.randbytes(rng.randrange(4))
    return bytes(rng.choices(b'\0\0ab\xc3\xa9{}[]",-019', k=rng.randrange(1, 60))) + rng.randbytes(rng.randrange(20))


def test_csrc_under_the_sanitizers_reads_and_writes_only_what_it_was_given(
    driver: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(SEED)
    path = tmp_path / "cases"
    with path.open("wb") as file:
        for body in corpus(SEED, CASES):
            behind = tail(rng)
            file.write(struct.pack("=II", len(body), len(behind)) + body + behind)
    ran = run(driver, path)
    assert ran.returncode == 0, f"seed {SEED}\n{ran.stderr[-6000:]}"
    words = ran.stdout.split()
    counted = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    with capsys.disabled():
        print(f"\nsanitizers: seed {SEED}, {ran.stdout.strip()}")
    assert counted["cases"] >= CASES
    least = {"get": 0.08, "set": 0.12, "items": 0.5, "right": 0.2, "changed": 0.01, "random": 0.0003, "refused": 0.3}
    least |= {"escaped": 0.1, "ttls": 0.05}
    assert {name: counted[name] for name, share in least.items() if counted[name] < share * CASES} == {}
