"""VASP as a labeller: what its files say is believed and nothing else, with a stand-in for the program."""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import vasp_stand_in
from ase import Atoms
from ase.build import bulk
from vasp_stand_in import FINISHED, NOT_REACHED, REACHED, fake_potcar, write_run

from curator.backends.base import LabelFailed, LabellerSpec, SetupError, check_labeller
from curator.backends.classical import FumiTosiLiF
from curator.backends.dft import Calculated, Ended
from curator.backends.labellers import label_frame, make_labeller
from curator.backends.leash import SAID_MEMORY, SAID_TIME
from curator.backends.vasp_input import PRESETS, order_of, species_of
from curator.backends.vasp_output import Asked, read_result, what_ended
from curator.datasets.frame import frame_from_atoms
from curator.datasets.label import Label

MakeSpec = Callable[..., LabellerSpec]
TITLES = {"Li": "PAW_PBE Li 00Fake0000", "F": "PAW_PBE F 00Fake0000", "Cl": "PAW_PBE Cl 00Fake0000"}
VALENCE = {"Li": 1, "F": 7, "Cl": 7}


@pytest.fixture
def vasp(tmp_path: Path) -> MakeSpec:
    """Make a labeller that runs a script of bash in VASP's place."""
    potcars = {}
    for symbol, valence in VALENCE.items():
        potcars[symbol] = str(tmp_path / f"POTCAR.{symbol}")
        Path(potcars[symbol]).write_text(fake_potcar(symbol, valence, 300))

    def make(script: str, walltime_s: float = 60.0) -> LabellerSpec:
        program = tmp_path / "vasp_std"
        program.write_text(f"#!/bin/bash\n{script}\n")
        program.chmod(0o755)
        settings = {"potcars": potcars, "functional": "pbe", **PRESETS["pbe"]}
        folder = str(tmp_path / "calculations")
        return LabellerSpec("dft", "vasp", "auto", False, json.dumps(settings), str(program), walltime_s, folder)

    return make


@pytest.fixture
def mixed() -> Atoms:
    """Rattled LiF in a skewed cell, fluorine first, its elements in turn."""
    atoms = bulk("LiF", "rocksalt", a=4.03, cubic=True)[[1, 0, 3, 2, 5, 4, 7, 6]]
    atoms.rattle(0.1, seed=2)
    skew = np.array([[0.1, 0.2, 0.0], [0.0, -0.1, 0.3], [0.2, 0.0, 0.15]])
    atoms.set_cell(atoms.cell.array + skew, scale_atoms=True)
    return atoms


def run_of(atoms: Atoms, folder: Path, forces: Any, stress: Any, energy: float = -40.0, **changes: Any) -> Path:
    """Files of a run of these atoms, which VASP would have sorted."""
    together = atoms[order_of(atoms)]
    about = {
        "titles": [TITLES[symbol] for symbol in species_of(atoms)],
        "n_electrons": float(sum(VALENCE[symbol] for symbol in atoms.symbols)),
    }
    write_run(folder, together, energy, np.asarray(forces)[order_of(atoms)], stress, **(about | changes))
    return folder


def asked_of(atoms: Atoms) -> Asked:
    titles = [TITLES[symbol] for symbol in species_of(atoms)]
    return Asked(titles, float(sum(VALENCE[symbol] for symbol in atoms.symbols)), 520.0, order_of(atoms))


def failed(spec: LabellerSpec, atoms: Atoms) -> LabelFailed:
    outcome = make_labeller(spec).label(atoms)
    assert isinstance(outcome, LabelFailed), outcome
    return outcome


def labelled(spec: LabellerSpec, atoms: Atoms) -> Label:
    outcome = make_labeller(spec).label(atoms)
    assert isinstance(outcome, Label), outcome
    return outcome


STAND_IN = f"exec {sys.executable} {vasp_stand_in.__file__}"


def test_numbers_of_the_program_reach_the_label(vasp: MakeSpec, mixed: Atoms, tmp_path: Path) -> None:
    label = labelled(vasp(STAND_IN), mixed)
    mixed.calc = FumiTosiLiF()
    assert label.energy == pytest.approx(mixed.get_potential_energy(), abs=1e-7)  # and not without the entropy
    np.testing.assert_allclose(label.forces, mixed.get_forces(), atol=1e-7)
    np.testing.assert_allclose(label.stress, mixed.get_stress(), atol=1e-7)
    assert np.abs(label.stress[3:]).min() > 1e-3  # a Voigt order that is wrong would show
    assert (label.remedy, label.theory[:4]) == ("", "pbe@")
    assert list((tmp_path / "calculations").iterdir()) == []


@pytest.mark.slow
def test_keeps_the_contract(vasp: MakeSpec, mixed: Atoms) -> None:
    check_labeller(make_labeller(vasp(STAND_IN)), mixed)


def test_labels_that_vasp_once_made_come_back(shared_data: Path, vasp: MakeSpec, tmp_path: Path) -> None:
    """LiCl by VASP and PBEsol: its numbers, in files of VASP's shape, are the label again."""
    atoms = next(a for a in ase.io.iread(shared_data / "licl_vasp" / "train.extxyz") if len(a) == 64)
    shuffled = atoms[np.random.default_rng(0).permutation(64)]
    forces, virial = shuffled.arrays["REF_forces"], np.reshape(shuffled.info["REF_virial"], (3, 3))
    stress = -virial.reshape(9)[[0, 4, 8, 5, 2, 1]] / shuffled.get_volume()
    prepared = run_of(shuffled, tmp_path / "prepared", forces, stress, shuffled.info["REF_energy"])
    label = labelled(vasp(f"cp {prepared}/* ."), shuffled)
    assert label.energy == pytest.approx(shuffled.info["REF_energy"], abs=1e-7)
    np.testing.assert_allclose(label.forces, forces, atol=1e-8)
    np.testing.assert_allclose(label.stress, stress, atol=1e-8)
    assert np.abs(label.forces).max() > 0.1


@pytest.mark.parametrize(
    ("outcar_end", "out", "err", "reason", "message"),
    [
        (NOT_REACHED + FINISHED, "", "", "scf", "after 12 SCF steps, last change of the energy -0.1"),
        (FINISHED, "", "", "scf", "not converged"),  # VASP 5 says nothing of it
        ("", "", f"{SAID_TIME} 60 s\n", "walltime", "after 12 SCF steps; raise label.walltime_h"),
        ("", "", f"{SAID_MEMORY}\n", "memory", "NCORE"),
        ("", "", "forrtl: severe (41): insufficient virtual memory\n", "memory", "memory ran out"),
        ("", " Error EDDDAV: Call to ZHEGV failed. Returncode =  9 2  16\n", "", "crash", "EDDDAV: Call to ZHEGV"),
        ("", " ZBRENT: fatal error in bracketing\n", "", "crash", "fatal error in bracketing (zbrent)"),
        ("", " |  no grid today    |\n |  I REFUSE TO CONTINUE WITH THIS SICK JOB  |\n", "", "crash", "no grid"),
        ("", " DAV:   3  -0.1E+01\n", "", "parse", "the output is cut short"),
        (REACHED, "", "", "parse", "cut short"),
    ],
)  # fmt: skip
def test_what_is_no_label_whatever_the_exit_status(
    mixed: Atoms, tmp_path: Path, outcar_end: str, out: str, err: str, reason: str, message: str
) -> None:
    run_of(mixed, tmp_path, np.zeros((8, 3)), np.zeros(6), outcar_end=outcar_end)
    (tmp_path / "vasp.out").write_text(out)
    (tmp_path / "vasp.err").write_text(err)
    ended = what_ended(tmp_path, 0)
    assert ended is not None
    assert (ended.reason, message in ended.message) == (reason, True), ended


def test_a_warning_of_a_run_that_converged_is_none_of_our_business(mixed: Atoms, tmp_path: Path) -> None:
    run_of(mixed, tmp_path, np.ones((8, 3)), np.zeros(6))
    (tmp_path / "vasp.out").write_text(" WARNING: Sub-Space-Matrix is not hermitian in DAV\n")
    assert what_ended(tmp_path, 1) is None
    assert isinstance(read_result(tmp_path, asked_of(mixed)), Calculated)


def test_a_dead_program_that_said_nothing(tmp_path: Path) -> None:
    (tmp_path / "vasp.err").write_text("mpirun: no slots\n")
    assert what_ended(tmp_path, 139) == Ended("crash", "VASP ended with status 139: mpirun: no slots")
    refused = what_ended(tmp_path, 1)
    assert refused == Ended("setup", "VASP did not begin (status 1: mpirun: no slots); see label.command")
    (tmp_path / "vasp.err").write_text("")
    assert what_ended(tmp_path, 0) == Ended("parse", "the output is cut short: it said nothing")


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        (lambda text: text[: len(text) // 2], "parse", "cut short"),
        (lambda text: text.replace('name="forces"', 'name="velocities"'), "parse", "KeyError: 'forces'"),
        (lambda text: text.replace("PAW_PBE Li 00", "PAW_PBE Li_sv 00"), "crash", "other values of the POTCARs"),
        (lambda text: text.replace('"NELECT">32', '"NELECT">31'), "crash", "other values of NELECT"),
        (lambda text: text.replace('"ENMAX">520', '"ENMAX">400'), "crash", "other values of ENCUT"),
    ],
    ids=["cut", "no forces", "other POTCAR", "other charge", "other cutoff"],
)
def test_vasprun_that_does_not_confirm_what_was_asked(
    mixed: Atoms, tmp_path: Path, change: Callable[[str], str], reason: str, message: str
) -> None:
    run_of(mixed, tmp_path, np.zeros((8, 3)), np.zeros(6))
    file = tmp_path / "vasprun.xml"
    file.write_text(change(file.read_text()))
    ended = what_ended(tmp_path, 0) or read_result(tmp_path, asked_of(mixed))
    assert isinstance(ended, Ended)
    assert (ended.reason, message in ended.message) == (reason, True), ended


@pytest.mark.parametrize("number", ["NaN", "**************", "5000.0"])
def test_numbers_that_are_none(vasp: MakeSpec, mixed: Atoms, tmp_path: Path, number: str) -> None:
    forces = np.ones((8, 3))
    forces[3, 1] = 0.123456789
    prepared = run_of(mixed, tmp_path / "prepared", forces, np.zeros(6))
    file = prepared / "vasprun.xml"
    file.write_text(file.read_text().replace("0.123456789000", number))
    failure = failed(vasp(f"cp {prepared}/* ."), mixed)
    assert failure.reason == "nonfinite"


def test_ladder_is_climbed_until_it_helps(vasp: MakeSpec, mixed: Atoms, tmp_path: Path) -> None:
    good = run_of(mixed, tmp_path / "good", np.ones((8, 3)), np.zeros(6))
    bad = run_of(mixed, tmp_path / "bad", np.ones((8, 3)), np.zeros(6), outcar_end=NOT_REACHED + FINISHED)
    spec = vasp(f"grep -q 'ALGO = All' INCAR && cp {good}/* . || cp {bad}/* .")
    assert labelled(spec, mixed).remedy == "more steps, mixing 0.2; conjugate gradients on all bands"
    from_density = vasp(
        f"if grep -q 'ICHARG = 1' INCAR; then grep -q 'SIGMA = 0.01' INCAR && grep -q density CHGCAR && cp {good}/* .\n"
        f"elif grep -q 'SIGMA = 0.2' INCAR; then cp {good}/* . ; echo density > CHGCAR; else cp {bad}/* .; fi"
    )
    assert labelled(from_density, mixed).remedy.endswith("from the density of a smeared calculation")


def test_what_is_left_of_a_failure(vasp: MakeSpec, mixed: Atoms, tmp_path: Path) -> None:
    bad = run_of(mixed, tmp_path / "bad", np.ones((8, 3)), np.zeros(6), outcar_end=NOT_REACHED + FINISHED)
    failure = failed(vasp(f"cp {bad}/* .; echo big > WAVECAR"), mixed)
    assert failure.reason == "scf"
    assert "(also with: more steps, mixing 0.2; conjugate gradients on all bands; from the" in failure.message
    (folder,) = (tmp_path / "calculations").iterdir()
    assert failure.message.endswith(f"files in {folder}")
    left = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {"INCAR", "KPOINTS", "POSCAR", "OUTCAR", "vasprun.xml", "vasp.out"} <= left
    assert not left & {"POTCAR", "WAVECAR"}


def test_time_limit_holds_for_what_the_program_starts(vasp: MakeSpec, mixed: Atoms) -> None:
    assert failed(vasp("sleep 100 & wait", walltime_s=1.0), mixed).reason == "walltime"


def test_a_potcar_that_changes_is_not_used(vasp: MakeSpec, mixed: Atoms, tmp_path: Path) -> None:
    spec = vasp("exit 0")
    labeller = make_labeller(spec)
    (tmp_path / "POTCAR.Li").write_text(fake_potcar("Li", 3, 300))
    outcome = labeller.label(mixed)
    assert isinstance(outcome, LabelFailed)
    assert "POTCAR.Li has changed" in outcome.message


def test_a_missing_program_says_nothing_of_the_frame(vasp: MakeSpec, mixed: Atoms, tmp_path: Path) -> None:
    spec = vasp("")
    (tmp_path / "vasp_std").unlink()
    with pytest.raises(SetupError, match=r"no program .*vasp_std .* label\.command"):
        label_frame(spec, frame_from_atoms(mixed))
    close = mixed.copy()
    close.positions[1] = close.positions[0] + [0.2, 0, 0]
    assert "0.20 Å apart" in failed(spec, close).message


def test_vasprun_of_a_stand_in_is_read_by_others_alike(mixed: Atoms, tmp_path: Path) -> None:
    """The files of these tests are of VASP's shape: ASE and pymatgen read the same from them."""
    from pymatgen.io.vasp.outputs import Vasprun

    rng = np.random.default_rng(4)
    forces, stress = rng.normal(size=(8, 3)), rng.normal(size=6)
    together = run_of(mixed, tmp_path / "good", forces, stress) / "vasprun.xml"
    read = ase.io.read(together)
    np.testing.assert_allclose(read.get_forces(), forces[order_of(mixed)], atol=1e-9)
    np.testing.assert_allclose(read.get_stress(), stress, atol=1e-9)
    assert read.get_potential_energy(force_consistent=True) == pytest.approx(-40.0)
    n_max = run_of(mixed, tmp_path / "bad", forces, stress, n_steps=100, outcar_end=NOT_REACHED + FINISHED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert Vasprun(together, parse_potcar_file=False, parse_dos=False, parse_eigen=False).converged_electronic
        unconverged = Vasprun(n_max / "vasprun.xml", parse_potcar_file=False, parse_dos=False, parse_eigen=False)
    assert not unconverged.converged_electronic
