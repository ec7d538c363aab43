"""GPAW as a labeller: a stand-in tells what is made of what it says, the real one whether the numbers are right."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gpaw_stand_in
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from curator.backends.base import LabelFailed, LabellerSpec, SetupError, check_labeller
from curator.backends.gpaw import PRESETS, about_gpaw, parameters_of
from curator.backends.labellers import at_charge, make_labeller
from curator.backends.remedies import LADDERS
from curator.config_label import Label as LabelSection
from curator.datasets.label import Label
from curator.labelling import labeller_of

MakeSpec = Callable[..., LabellerSpec]
SETTINGS = {"elements": ["F", "Li"], "functional": "pbe", **PRESETS["pbe"]}


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSpec:
    """Make a labeller whose Python has a stand-in for GPAW."""
    package = tmp_path / "site" / "gpaw"
    package.mkdir(parents=True)
    source = Path(gpaw_stand_in.__file__).read_text()
    for name in ("__init__", "mpi", "setup_data"):
        (package / f"{name}.py").write_text(source)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/bash\nPYTHONPATH={tmp_path}/site exec {sys.executable} "$@"\n')
    python.chmod(0o755)

    def make(walltime_s: float = 60.0, command: str = "", environment: dict[str, str] | None = None, **changes: object):
        for name, value in (environment or {}).items():
            monkeypatch.setenv(name, value)
        settings, folder = json.dumps(SETTINGS | changes), str(tmp_path / "calculations")
        return LabellerSpec("dft", "gpaw", "auto", False, settings, command or str(python), walltime_s, folder)

    yield make
    about_gpaw.cache_clear()


def failed(spec: LabellerSpec, atoms: Atoms) -> LabelFailed:
    outcome = make_labeller(spec).label(atoms)
    assert isinstance(outcome, LabelFailed), outcome
    return outcome


def labelled(spec: LabellerSpec, atoms: Atoms) -> Label:
    outcome = make_labeller(spec).label(atoms)
    assert isinstance(outcome, Label), outcome
    return outcome


def test_numbers_reach_the_label(stand_in: MakeSpec, cell: Atoms, tmp_path: Path) -> None:
    label = labelled(stand_in(), cell)
    assert label.energy == gpaw_stand_in.ENERGY_EV  # the free energy, of which the forces are the derivatives
    np.testing.assert_allclose(label.forces, gpaw_stand_in.FORCE_EV_PER_A2 * cell.positions, atol=1e-9)
    np.testing.assert_allclose(label.stress, gpaw_stand_in.STRESS_EV_PER_A3)
    assert label.cpu_s > 0.05
    assert list((tmp_path / "calculations").iterdir()) == []


def test_a_relative_command_is_that_of_where_curator_runs(
    stand_in: MakeSpec, cell: Atoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    labelled(stand_in(command="./python"), cell)


def test_everything_is_said(stand_in: MakeSpec, cell: Atoms, tmp_path: Path) -> None:
    """A failure leaves the input; all that changes the answer is in it."""
    spec = stand_in(environment={"STAND_IN_STEPS": "1000"}, multiplicity=3, setups={"F": "v2"})
    failure = failed(spec, cell)
    assert failure.reason == "scf"
    assert "not converged: Did not converge! See text output for help. (also with: more steps" in failure.message
    (folder,) = (tmp_path / "calculations").iterdir()
    given = json.loads((folder / "input.json").read_text())
    assert given["setups"] == {"F": "v2", "Li": "paw"}
    assert given["xc"] == "PBE"
    assert given["magnetic_moments"] == [0.25] * 8
    assert given["parameters"] == {
        "mode": {"name": "pw", "ecut": 800.0},
        "kpts": {"size": [5, 5, 5], "gamma": True},
        "occupations": {"name": "fermi-dirac", "width": 0.0, "fixmagmom": True},
        "convergence": {"energy": 1e-5, "density": 1e-5, "eigenstates": 1e-8},
        "charge": 0,
        "spinpol": True,
        **LADDERS["gpaw"][1].changes["gpaw"],
    }
    assert parameters_of(replace(make_labeller(spec).settings, smearing_eV=0.1))["occupations"]["width"] == 0.1


def test_a_remedy_is_recorded(stand_in: MakeSpec, cell: Atoms) -> None:
    spec = stand_in(environment={"STAND_IN_STEPS": "300"})
    assert labelled(spec, cell).remedy == "more steps, mixing 0.02"
    for remedy in LADDERS["gpaw"]:
        assert set(remedy.changes.get("gpaw", {})) <= {"maxiter", "mixer", "eigensolver"}


@pytest.mark.parametrize(
    ("environment", "reason", "message"),
    [
        ({"STAND_IN": "raise MemoryError"}, "memory", "memory ran out"),
        ({"STAND_IN": "raise ValueError('no such grid')"}, "crash", "ValueError: no such grid"),
        ({"STAND_IN": "import os; os._exit(0)"}, "parse", "there is no result"),
        ({"STAND_IN": "import os; os.kill(os.getpid(), 9)"}, "crash", "status 137"),
        ({"STAND_IN": "import time; time.sleep(60)"}, "walltime", "label.walltime_h"),
        ({"STAND_IN_SAYS": "iter 1\niter 2\n"}, "scf", "does not say that it converged: iter 1 / iter 2"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value.values())),
)
def test_failures_are_told_apart(
    stand_in: MakeSpec, cell: Atoms, environment: dict[str, str], reason: str, message: str
) -> None:
    failure = failed(stand_in(walltime_s=4.0 if reason == "walltime" else 60.0, environment=environment), cell)
    assert (failure.reason, message in failure.message) == (reason, True), failure


def test_a_launcher_that_fails_says_nothing_about_the_frame(stand_in: MakeSpec, cell: Atoms, tmp_path: Path) -> None:
    launcher = tmp_path / "mpirun"
    launcher.write_text("#!/bin/bash\necho 'not enough slots' >&2\nexit 1\n")
    launcher.chmod(0o755)
    labeller = make_labeller(stand_in(command=f"{launcher} -np 4 {tmp_path / 'python'}"))
    with pytest.raises(SetupError, match=r"GPAW did not begin \(status 1: not enough slots\); see label.command"):
        labeller.label(cell)


def test_setups_that_change_are_not_used(stand_in: MakeSpec, cell: Atoms, tmp_path: Path) -> None:
    spec = stand_in()
    labeller = make_labeller(spec)
    module = tmp_path / "site" / "gpaw" / "setup_data.py"
    module.write_text(module.read_text().replace("no setup of Li", "another one of Li"))
    outcome = labeller.label(cell)
    assert isinstance(outcome, LabelFailed)
    assert (outcome.reason, "other setups" in outcome.message) == ("crash", True)


def test_theory_is_what_and_not_how(stand_in: MakeSpec) -> None:
    theory = make_labeller(stand_in()).theory
    assert theory.key.startswith("pbe@")
    assert theory.versions == {"gpaw": "0.0-stand-in"}
    assert len(theory.hashes["Li"]) == 64
    other = replace(stand_in(), walltime_s=7.0, scratch="/elsewhere")
    assert make_labeller(other).theory.key == theory.key
    for changes in (
        {"cutoff_eV": 801.0},
        {"kpoint_spacing_per_A": 0.3},
        {"convergence_eV": 1e-6},
        {"smearing_eV": 0.1},
        {"charge": 1},
        {"multiplicity": 2},
        {"setups": {"F": "v2"}},
    ):
        assert make_labeller(stand_in(**changes)).theory.key != theory.key, changes
    assert make_labeller(stand_in(multiplicity=1)).theory.key == theory.key
    assert make_labeller(at_charge(stand_in(charge=0), 1, 2)).settings.multiplicity == 2


def test_frames_that_gpaw_cannot_be_asked_about(stand_in: MakeSpec, cell: Atoms) -> None:
    assert "cannot fill levels in pairs" in failed(stand_in(), cell[:7]).message
    assert "names no setup of Na" in failed(stand_in(), bulk("NaF", "rocksalt", a=4.6)).message
    assert "three cell vectors" in failed(stand_in(), Atoms("LiF", [(0, 0, 0), (1.6, 0, 0)])).message


def test_what_is_missing_is_named(stand_in: MakeSpec, cell: Atoms, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="GPAW has no setup of F, Li for LDA; pip install gpaw-data"):
        make_labeller(stand_in(functional="lda"))
    with pytest.raises(ValueError, match="functional: 'pbesol' is unknown; there are lda, pbe"):
        make_labeller(stand_in(functional="pbesol"))
    bare = tmp_path / "python3-bare"
    bare.write_text(f'#!/bin/bash\nPYTHONPATH= exec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(ValueError, match=r"no GPAW in .*No module named 'gpaw'.*pip install gpaw gpaw-data"):
        make_labeller(stand_in(command=str(bare)))
    with pytest.raises(ValueError, match="runs no python; give for instance"):
        make_labeller(stand_in(command="mpirun -np 4 vasp_std"))
    labeller = make_labeller(stand_in())
    with pytest.raises(SetupError, match=r"no program .*python-gone"):
        replace(labeller, command=str(tmp_path / "python-gone")).label(cell)


def test_section_of_a_campaign_file(stand_in: MakeSpec, tmp_path: Path) -> None:
    content = {"kind": "dft", "code": "gpaw", "cutoff_eV": 700, "command": stand_in().command, "walltime_h": 2}
    spec = labeller_of(LabelSection.model_validate(content), {"Li", "F"}, tmp_path, charge=-1)
    labeller = make_labeller(spec)
    assert (labeller.settings.cutoff_eV, labeller.settings.charge, labeller.walltime_s) == (700, -1, 7200)
    with pytest.raises(ValueError, match="pseudopotentials means nothing to gpaw"):
        LabelSection(kind="dft", code="gpaw", pseudopotentials="here")


@pytest.fixture
def gpaw(gpaw_python: str, tmp_path: Path) -> MakeSpec:
    """Make a quick labeller of LiF by the real GPAW."""

    def make(**changes: object) -> LabellerSpec:
        quick = {"cutoff_eV": 350.0, "kpoint_spacing_per_A": 1.2}
        settings, folder = json.dumps(SETTINGS | quick | changes), str(tmp_path / "calculations")
        return LabellerSpec("dft", "gpaw", "auto", False, settings, gpaw_python, 600.0, folder)

    return make


@pytest.fixture
def pair() -> Atoms:
    """Two atoms of LiF, off their symmetric places."""
    atoms = bulk("LiF", "rocksalt", 4.03)
    atoms.positions[1] += [0.32, 0.15, 0.02]
    return atoms


BY_HAND = """
import json, sys
from ase import Atoms
from gpaw import GPAW, PW
atoms = Atoms(**json.loads(sys.argv[1]), pbc=True)
atoms.calc = GPAW(mode=PW(350), xc="PBE", kpts={"size": (3, 3, 3), "gamma": True}, txt=None)
print(json.dumps([atoms.get_potential_energy(), atoms.get_forces().tolist(), atoms.get_stress().tolist()]))
"""


def test_numbers_are_those_of_gpaw_by_hand(gpaw: MakeSpec, gpaw_python: str, pair: Atoms, tmp_path: Path) -> None:
    label = labelled(gpaw(), pair)
    about = {"numbers": pair.numbers.tolist(), "positions": pair.positions.tolist(), "cell": pair.cell.tolist()}
    words = [gpaw_python, "-c", BY_HAND, json.dumps(about)]
    run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    energy, forces, stress = json.loads(run.stdout.splitlines()[-1])
    assert label.energy == pytest.approx(energy, abs=1e-4)
    np.testing.assert_allclose(label.forces, forces, atol=2e-3)
    np.testing.assert_allclose(label.stress, stress, atol=1e-4)
    assert np.abs(label.forces).max() > 0.3


@pytest.mark.slow
def test_real_gpaw_keeps_the_contract(gpaw: MakeSpec, pair: Atoms) -> None:
    # At a finite cutoff the energy follows the number of plane waves, which the stress does not know.
    labeller = make_labeller(gpaw(cutoff_eV=700.0))
    check_labeller(labeller, pair, force_tolerance_eV_per_A=0.02, stress_tolerance_eV_per_A3=0.02)


@pytest.mark.slow
def test_charge_and_spin(gpaw: MakeSpec) -> None:
    odd = Atoms("Li2F", positions=[(0, 0, 0), (2, 2, 2), (0, 2, 0)], cell=[4, 4, 4.2], pbc=True)
    keys = set()
    for charge, multiplicity in ((1, 0), (0, 2)):
        atoms = odd.copy()
        atoms.info["charge"] = charge
        keys.add(labelled(at_charge(gpaw(charge=0), charge, multiplicity), atoms).theory)
    assert len(keys) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("lattice_A", "rattle_A"), [(4.06, 0.02), (4.03, 0.05)])
def test_gpaw_and_espresso_agree_within_their_pseudopotentials(
    gpaw: MakeSpec, pseudopotentials: Path, tmp_path: Path, lattice_A: float, rattle_A: float
) -> None:
    """Two codes that share nothing but PBE: GPAW freezes the 1s electrons of lithium, and is a tenth stiffer."""
    atoms = bulk("LiF", "rocksalt", a=lattice_A, cubic=True)
    atoms.rattle(rattle_A, seed=7)
    settings = {
        "pseudopotentials": {symbol: str(pseudopotentials / f"{symbol}.upf") for symbol in ("Li", "F")},
        "cutoff_Ry": 90.0,
        "kpoint_spacing_per_A": 0.8,
        "convergence_Ry": 1e-9,
    }
    espresso = LabellerSpec("dft", "espresso", settings=json.dumps(settings), scratch=str(tmp_path / "espresso"))
    by_espresso, by_gpaw = labelled(espresso, atoms), labelled(gpaw(cutoff_eV=800.0, kpoint_spacing_per_A=0.8), atoms)
    difference = 1000 * (by_gpaw.forces - by_espresso.forces)
    rms, largest = np.sqrt(np.mean(difference**2)), np.abs(difference).max()
    size = 1000 * np.sqrt(np.mean(by_espresso.forces**2))
    print(f"GPAW - Quantum ESPRESSO: {rms:.1f} meV/Å rms, {largest:.1f} at most, of {size:.0f} rms")
    # What docs/dft-codes.md says: a sixth of the force, so that 30 meV/Å are kept for small displacements only.
    assert (rms < 30.0) == (rattle_A < 0.05)
    assert 0.1 < rms / size < 0.2
    assert by_gpaw.theory != by_espresso.theory
