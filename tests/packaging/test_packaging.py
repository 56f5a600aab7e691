"""What users install: sdist and wheel, with and without a C compiler, used outside the checkout."""

import email
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import abi3info
import abi3info.models
import pytest

import gkv

ROOT = Path(__file__).parents[2]
MISSING = "/nonexistent/cc"


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command; return what it printed, or fail with it."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name != "GKV_NATIVE"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build an sdist from a copy of what git knows."""
    directory = tmp_path_factory.mktemp("sdist")
    copy = directory / "copy"
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", directory, cwd=copy)
    [built] = directory.glob("*.tar.gz")
    return built


def build_wheel(sdist: Path, directory: Path, **environment: str) -> tuple[Path, str]:
    """Unpack the sdist, build a wheel from it; return the wheel and what the build printed."""
    with tarfile.open(sdist) as archive:
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # 3.11.4 and newer have it
        archive.extractall(directory, **safely)  # type: ignore[arg-type]
    [source] = [path for path in directory.iterdir() if path.is_dir()]
    shown = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory, cwd=source, **environment)
    [wheel] = directory.glob("*.whl")
    return wheel, shown


def twin_in_use(wheel: Path, directory: Path) -> str:
    """Install a wheel by itself, run it away from any checkout, and return which twin of the ring it uses."""
    target = directory / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    # Without `site` no .pth file is read, so an editable installation of the checkout cannot step in; dependencies by path.
    path = f"{target}{os.pathsep}{sysconfig.get_path('platlib')}"
    python = (sys.executable, "-S", "-P")
    script = (
        "import gkv, gkv.ring, gkv.model; "
        "ring = gkv.ring.build([gkv.model.Node('127.0.0.1:9000'), gkv.model.Node('127.0.0.1:9001')]); "
        "print(gkv.__file__, gkv.ring.TWIN, ring.owner('hi').id)"
    )
    away = directory / "away"
    away.mkdir()
    file, twin, owner = run(*python, "-c", script, cwd=away, PYTHONPATH=path).split()
    assert Path(file).is_relative_to(target)
    assert owner == "127.0.0.1:9000"
    help_text = run(*python, "-m", "gkv.cli", "proxy", "--help", cwd=away, PYTHONPATH=path)
    assert "--spawn" in help_text
    return twin


def test_sdist_holds_sources_tests_and_licence_and_no_build_products(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"csrc/gkv.h", "csrc/ring.c", "csrc/build_native.py", "setup.py", "LICENSE", "CHANGELOG.md", "gkv/py.typed"}
    assert wanted <= names
    assert any(name.startswith("tests/contract/") for name in names)
    assert not [name for name in names if name.endswith((".so", ".pyc", ".o"))]


def test_wheel_without_a_compiler_warns_once_and_runs_on_the_pure_twin(sdist: Path, tmp_path: Path) -> None:
    wheel, shown = build_wheel(sdist, tmp_path, CC=MISSING)
    assert shown.count('building extension "gkv._native" failed') == 1
    assert twin_in_use(wheel, tmp_path) == "pure"


@pytest.mark.skipif(os.environ.get("GKV_NATIVE") == "off", reason="this run does without the C extension")
def test_wheel_with_a_compiler_runs_on_the_native_twin_and_serves_every_python_from_3_11_on(
    sdist: Path, tmp_path: Path
) -> None:
    wheel, _ = build_wheel(sdist, tmp_path)
    assert twin_in_use(wheel, tmp_path) == "native"
    assert re.fullmatch(rf"gkv-{re.escape(gkv.__version__)}-cp311-abi3-[a-z0-9_]+\.whl", wheel.name)
    [extension] = tmp_path.glob("installed/gkv/*.so")
    assert extension.name == "_native.abi3.so"
    assert unstable_names(extension) == set()


def unstable_names(extension: Path) -> set[str]:
    """Return the names of Python's C interface that an extension needs and that CPython 3.11 does not promise to keep."""
    listed = run("nm", "-D", "--undefined-only", "--format=posix", extension, cwd=ROOT)
    needed = {name for name in (line.split()[0] for line in listed.splitlines()) if re.match("_?Py", name)}
    assert "PyErr_Occurred" in needed
    known = {**abi3info.FUNCTIONS, **abi3info.DATAS}
    promised = {symbol.name for symbol, item in known.items() if item.added <= abi3info.models.PyVersion(3, 11)}
    return needed - promised


def test_metadata_has_the_version_of_the_newest_release_in_the_changelog(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        [path] = [name for name in archive.getnames() if name.count("/") == 1 and name.endswith("/PKG-INFO")]
        file = archive.extractfile(path)
        assert file is not None
        metadata = email.message_from_bytes(file.read())
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert metadata["Version"] == gkv.__version__ == released[0]
    assert metadata["Requires-Python"] == ">=3.11"
    assert {"Operating System :: POSIX :: Linux", "Operating System :: MacOS"} <= set(metadata.get_all("Classifier", []))
