"""The shipped campaign with the classical teacher, run until it converges, against the teacher's own diffusion."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench_classical as bench
import pytest
import yaml

from curator.diffusion.arrhenius import Arrhenius, fit_arrhenius

TEMPLATE = Path(__file__).parents[2] / "curator" / "templates" / "classical.yaml"
TOLERANCE_EV = 0.08
TEMPERATURES_K = (500.0, 700.0, 1000.0)
DURATION_PS = 70.0
MAX_HOURS = 3.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 * (MAX_HOURS + 1))]


@pytest.fixture(scope="module")
def teacher(lammps_engine: Callable, runs_folder: Path) -> Arrhenius:
    """Activation energy of the teacher itself, from LAMMPS, at the temperatures of the campaign."""
    fit = fit_arrhenius(bench.lammps_diffusivities(bench.relaxed_cell(2), runs_folder / "teacher", TEMPERATURES_K))
    assert fit is not None
    return fit


@pytest.fixture(scope="module")
def campaign(runs_folder: Path) -> dict[str, Any]:
    """What the campaign ended with; an undetermined verdict is answered with more MD once, as the README says."""
    folder = runs_folder / "classical"
    for more in (1.0, 1.5):
        write_campaign(folder, more * DURATION_PS)
        found = run_campaign(folder)
        if found["verdict"] != "undetermined":
            break
    return found


def write_campaign(folder: Path, duration_ps: float) -> None:
    settings = yaml.safe_load(TEMPLATE.read_text())
    settings["measure"]["diffusion"] = {
        "temperatures_K": list(TEMPERATURES_K),
        "tolerance_eV": TOLERANCE_EV,
        "replicas": 2,
        "duration_ps": duration_ps,
    }
    settings["stop"] = {"max_rounds": 8, "max_labels": 140}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "campaign.yaml").write_text(yaml.safe_dump(settings))


def run_campaign(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "curator", "run", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600 * MAX_HOURS)
    assert done.returncode in (0, 3), done.stderr
    return json.loads((folder / "campaign.json").read_text())


def test_converges_at_the_activation_energy_of_the_teacher(campaign: dict[str, Any], teacher: Arrhenius) -> None:
    """Converged within 0.08 eV, and true: the teacher's activation energy, within the errors of both.

    Two rounds agree within a tolerance if their difference and 1.645 of its standard errors are less than that. With
    an error of 0.08 / 4.2 eV = 19 meV each, those are 44 meV, and rounds that differ by chance alone, 27 meV, pass in
    four of five comparisons. The teacher makes 0.8, 1.9 and 2.8 hops a picosecond at 500, 700 and 1000 K. Two
    trajectories of 70 ps see 112, 260 and 390, which leave relative errors of 2.1 / sqrt(hops), 20, 13 and 11 per cent,
    and in the activation energy 19 meV. That is 0.43 ns at 18 ms of CPU time for a step of 2 fs: half an hour on two
    cores, in each of the three rounds that are compared. The trend of ln D at 500 K over three rounds has an error of
    0.33, and passes within ln 2 where it is below 0.16, in two of five campaigns; over four rounds 0.22, and in six of
    seven. The labels must last for eight rounds: 26 in the first, 11 in each other, and 12 for the exam. MD waits for
    the barrier to settle and for the force error to stop falling, which took four rounds; eight are allowed.
    """
    assert campaign["verdict"] == "converged", campaign["reasons"]
    last = campaign["rounds"][-1]
    measured = last["arrhenius"]
    print(f"Ea {measured['Ea_eV']} ± {measured['error_eV']}, teacher {teacher.Ea_eV} ± {teacher.error_eV}")
    assert measured["error_eV"] < TOLERANCE_EV / 2
    assert abs(measured["Ea_eV"] - teacher.Ea_eV) < 2 * math.hypot(measured["error_eV"], teacher.error_eV)


def test_barrier_is_that_of_the_teacher(campaign: dict[str, Any]) -> None:
    last = campaign["rounds"][-1]
    assert abs(last["barrier_eV"] - bench.relaxed_cell(2).barrier_eV) < TOLERANCE_EV / 2
