"""Outputs of other programs: units, signs and convergence against numbers that are known."""

import importlib.util
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.units import GPa
from vasp_files import PBE_520, ENTROPY_eV, walk, write_outcar, write_vasprun

from curator.datasets.codes import format_of, read_output
from curator.datasets.output import Step, flaw_of
from curator.datasets.work import mismatch, work_of

OUTPUTS = Path(__file__).parent / "outputs"


def check_same(step: Step, image: Atoms, position: float = 1e-7, force: float = 1e-9, stress: float = 1e-10) -> None:
    assert step.atoms.get_chemical_symbols() == image.get_chemical_symbols()
    assert step.atoms.pbc.all()
    np.testing.assert_allclose(step.atoms.cell.array, image.cell.array, atol=position)
    np.testing.assert_allclose(step.atoms.positions, image.positions, atol=position)
    assert step.energy == pytest.approx(image.calc.results["energy"], abs=1e-7)
    np.testing.assert_allclose(step.forces, image.calc.results["forces"], atol=force)
    np.testing.assert_allclose(step.stress, image.calc.results["stress"], atol=stress)


def test_charge_of_an_output_of_espresso_is_what_its_electrons_say(tmp_path: Path):
    text = (OUTPUTS / "lif_md.pwo").read_text()
    assert {step.atoms.info["charge"] for step in read_output(OUTPUTS / "lif_md.pwo", "espresso").steps} == {0}
    (electrons,) = set(re.findall(r"number of electrons\s*=\s*([\d.]+)", text))
    fewer = tmp_path / "charged.pwo"
    fewer.write_text(re.sub(r"(number of electrons\s*=\s*)[\d.]+", rf"\g<1>{float(electrons) - 1:.2f}", text))
    assert {step.atoms.info["charge"] for step in read_output(fewer, "espresso").steps} == {1}


def test_vasprun(tmp_path: Path):
    images = walk(4)
    path = tmp_path / "vasprun.xml"
    write_vasprun(path, images, n_iterations=[12, 60, 59, 1])
    assert format_of(path) == "vasprun"
    output = read_output(path, "vasprun")
    for step, image in zip(output.steps, images, strict=True):
        check_same(step, image)
    # The second used up NELM = 60.
    assert [flaw_of(step) for step in output.steps] == [None, "unconverged", None, None]
    assert output.settings == PBE_520
    assert output.details["hubbard_U_eV"] == {"Li": 0.0, "F": 0.0}
    assert output.details["kpoints"] == [2, 2, 2]
    assert output.details["pseudopotentials"] == {"Li": "PAW_PBE Li_sv 10Sep2004", "F": "PAW_PBE F 08Apr2002"}
    assert output.versions == {"vasp": "6.3.0"}
    # A second reader, which takes the free energy for free and sigma->0 for the energy.
    for step, other in zip(output.steps, ase.io.read(path, index=":", format="vasp-xml"), strict=True):
        assert step.energy == pytest.approx(other.calc.results["free_energy"], abs=1e-9)
        assert step.energy == pytest.approx(other.calc.results["energy"] - ENTROPY_eV, abs=1e-7)
        np.testing.assert_allclose(step.stress, other.calc.results["stress"], atol=1e-12)


def test_vasprun_under_pressure_holds_an_enthalpy(tmp_path: Path):
    images = walk(2)
    write_vasprun(tmp_path / "vasprun.xml", images, pstress_kbar=50.0)
    for step, image in zip(read_output(tmp_path / "vasprun.xml", "vasprun").steps, images, strict=True):
        assert step.energy == pytest.approx(image.calc.results["energy"], abs=1e-7)


def test_vasprun_that_is_cut_off(tmp_path: Path):
    images = walk(3)
    write_vasprun(tmp_path / "whole.xml", images)
    text = (tmp_path / "whole.xml").read_text()
    (tmp_path / "vasprun.xml").write_text(text[: text.rindex("<calculation>") + 300])
    steps = read_output(tmp_path / "vasprun.xml", "vasprun").steps
    assert len(steps) == 2
    check_same(steps[1], images[1])


def test_outcar(tmp_path: Path):
    images = walk(3)
    path = tmp_path / "OUTCAR"
    write_outcar(path, images, converged=[True, False, True])
    write_vasprun(tmp_path / "vasprun.xml", images)
    assert format_of(path) == "outcar"
    output = read_output(path, "outcar")
    for step, image in zip(output.steps, images, strict=True):
        check_same(step, image, position=6e-6, force=6e-7, stress=1e-8)
    assert [flaw_of(step) for step in output.steps] == [None, "unconverged", None]
    # The same run is of the same level of theory, whichever of its files is read.
    assert output.settings == read_output(tmp_path / "vasprun.xml", "vasprun").settings
    assert output.details["pseudopotentials"] == {"Li": "PAW_PBE Li_sv 10Sep2004", "F": "PAW_PBE F 08Apr2002"}


@pytest.mark.parametrize("charge", [None, 0, 1, -2])
def test_charge_of_a_run_of_vasp_is_what_its_electrons_say(tmp_path: Path, charge: int | None):
    write_vasprun(tmp_path / "vasprun.xml", walk(2), charge=charge)
    write_outcar(tmp_path / "OUTCAR", walk(2), charge=charge)
    for name, kind in (("vasprun.xml", "vasprun"), ("OUTCAR", "outcar")):
        assert [step.atoms.info.get("charge") for step in read_output(tmp_path / name, kind).steps] == [charge] * 2


HYBRID = {"LHFCALC": True, "AEXX": 0.25}
NONLOCAL = {"LUSE_VDW": True, "AGGAC": 0.0}


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        (HYBRID | {"HFSCREEN": 0.0}, {"exact_exchange": 0.25}),
        (HYBRID | {"HFSCREEN": 0.2}, {"exact_exchange": "0.25, screened at 0.2 per Å"}),
        (NONLOCAL, {"dispersion": "0, nonlocal with ZAB_VDW -0.8491 and AGGAC 0"}),
        (NONLOCAL | {"Zab_VDW": -1.8867}, {"dispersion": "0, nonlocal with ZAB_VDW -1.8867 and AGGAC 0"}),
        ({"AGGAC": 1.0, "PARAM1": 0.1234, "PARAM2": 1.0, "HFSCREEN": 0.0}, {}),
    ],
)
def test_settings_that_make_another_functional_are_told(
    tmp_path: Path, tags: dict[str, object], told: dict[str, object]
):
    write_vasprun(tmp_path / "vasprun.xml", walk(1), tags=tags)
    write_outcar(tmp_path / "OUTCAR", walk(1), tags=tags)
    for name, kind in (("vasprun.xml", "vasprun"), ("OUTCAR", "outcar")):
        assert read_output(tmp_path / name, kind).settings == PBE_520 | told


def test_parameters_of_an_exchange_functional_are_told(tmp_path: Path):
    write_outcar(tmp_path / "OUTCAR", walk(1))
    text = (tmp_path / "OUTCAR").read_text()
    for gga, parameters, told in (
        ("BO", "   PARAM1  = 0.1833333333\n   PARAM2  = 0.2200000000\n", "BO of 0.1833 and 0.22"),
        ("MK", "", "MK of 0.1234 and 1"),
    ):
        (tmp_path / "OUTCAR").write_text(text.replace("   GGA     =    PE", f"{parameters}   GGA     =    {gga}"))
        assert read_output(tmp_path / "OUTCAR", "outcar").settings["gga"] == told


def test_espresso():
    """Numbers printed by pw.x 6.7, converted by hand: 1 Ry = 13.605693 eV, 1 bohr = 0.5291772 Å, 1 kbar = 0.1 GPa."""
    path = OUTPUTS / "lif_md.pwo"
    assert format_of(path) == "espresso"
    output = read_output(path, "espresso")
    assert len(output.steps) == 3
    first, _, last = output.steps
    assert first.energy == pytest.approx(-63.55489061 * 13.605693, abs=1e-4)
    np.testing.assert_allclose(first.forces[0], np.array([0.00348201, -0.00068291, -0.00113488]) * 25.71104, rtol=1e-5)
    kbar = np.array([-1770.86, -1783.57, -1781.29, 0.09, 0.63, 0.47])
    np.testing.assert_allclose(first.stress, -kbar * 0.1 * GPa, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(first.atoms.positions[1], [2.13, 2.01, 1.98], atol=1e-6)
    np.testing.assert_allclose(last.atoms.positions[1], [2.1299149284, 2.0100167086, 1.9800277432], atol=1e-9)
    assert first.atoms.cell.array[0] == pytest.approx([0.0, 2.03, 2.03], abs=1e-6)
    assert output.settings == {
        "functional": "PBE",
        "dispersion": "none",
        "cutoff_Ry": 40.0,
        "density_cutoff_Ry": 160.0,
    }
    assert output.details["pseudopotentials"]["Li"] == "Li.upf md5:dbcf0ea72988e720c8c712b432d51b0d"
    assert output.details["smearing"] == "Gaussian smearing, width (Ry)= 0.0100"
    assert output.versions == {"espresso": "6.7MaX"}
    # The energy is that of the forces: two steps of dynamics, 10 and 25 µeV.
    for one, two in zip(output.steps[:-1], output.steps[1:], strict=True):
        work = -0.5 * ((one.forces + two.forces) * (two.atoms.positions - one.atoms.positions)).sum()
        assert two.energy - one.energy == pytest.approx(work, rel=0.1)


def test_espresso_that_only_says_it_has_converged(tmp_path: Path):
    """``scf_must_converge = .false.`` has pw.x print "convergence has been achieved" with an accuracy of 1.6 mRy."""
    path = OUTPUTS / "lif_unconverged.pwo"
    assert "convergence has been achieved" in path.read_text()
    (step,) = read_output(path, "espresso").steps
    assert step.forces is not None
    assert flaw_of(step) == "unconverged"
    # A run that stopped after another one in the same file.
    both = tmp_path / "both.pwo"
    both.write_text((OUTPUTS / "lif_md.pwo").read_text() + (OUTPUTS / "lif_stopped.pwo").read_text())
    assert [flaw_of(step) for step in read_output(both, "espresso").steps] == [None, None, None, "unconverged"]
    both.write_text(both.read_text().replace("40.0000  Ry", "50.0000  Ry", 1))
    with pytest.raises(ValueError, match="differ in functional or cutoff"):
        read_output(both, "espresso")
    both.write_text(path.read_text().replace("Estimated max", "Parameters for Dispersion (Grimme-D2) Correction:"))
    assert read_output(both, "espresso").settings["dispersion"] == "Grimme-D2"


HUBBARD_TABLE = """
     Starting magnetic structure
     atomic species   magnetization
        Li           0.000

     Simplified LDA+U calculation (l_max = 2) with parameters (eV):
     atomic species    L          U    alpha       J0     beta
        F1             1     4.5000   0.0000   0.0000   0.0000

"""
HUBBARD_LINES = """
     Hubbard projectors: atomic
     Hubbard parameters of DFT+U (Dudarev formulation) in eV:
     U(F1-2p)  =  4.5000
"""


def test_spin_and_hubbard_parameters_of_espresso(tmp_path: Path):
    text = (OUTPUTS / "lif_md.pwo").read_text()
    plain = read_output(OUTPUTS / "lif_md.pwo", "espresso").details
    assert (plain["spin"], plain["hubbard_U_eV"]) == (1, {"Li": 0.0, "F": 0.0})
    for said, spin in ((HUBBARD_TABLE, 2), (HUBBARD_LINES, 1)):
        (tmp_path / "u.pwo").write_text(text.replace("     number of k points=", f"{said}     number of k points=", 1))
        details = read_output(tmp_path / "u.pwo", "espresso").details
        assert (details["spin"], details["hubbard_U_eV"]) == (spin, {"Li": 0.0, "F": 4.5})


def test_cp2k():
    """Three runs that CP2K 2023.1 appended to one file, moved and strained, and one that was stopped early."""
    path = OUTPUTS / "hf.cp2k"
    assert format_of(path) == "cp2k"
    output = read_output(path, "cp2k")
    assert [flaw_of(step) for step in output.steps] == [None, None, None, "unconverged"]
    start, moved, strained, _ = output.steps
    assert start.energy == pytest.approx(-24.835877309004765 * 27.211384, abs=1e-5)
    np.testing.assert_allclose(start.forces[1], np.array([0.00139229, -0.00268801, 0.00002796]) * 51.42208, rtol=1e-5)
    gpa = np.array([2.29644662822, 1.64596000605, 1.22982983299, 0.0858140234, 0.08298010800, 0.173770446336])
    np.testing.assert_allclose(start.stress, -gpa * GPa, rtol=1e-8)
    # Three decimals of the vectors are sharpened to six by lengths and angles.
    np.testing.assert_allclose(start.atoms.cell.array, [[4.012345, 0, 0], [0, 4.2, 0], [0, 0.3, 4.4]], atol=1e-6)
    assert output.settings["functional"] == "PBE"
    assert output.settings["cutoff_Ry"] == 300.0
    assert output.details["pseudopotentials"]["H"] == "GTH-PBE-q1 DZVP-MOLOPT-SR-GTH"
    # Signs, from differences of the energy: F moved by 0.01 Å; 3 % of strain along x. The grid is coarse.
    work = -0.005 * (start.forces[1, 0] + moved.forces[1, 0])
    assert moved.energy - start.energy == pytest.approx(work, rel=0.1)
    work = 0.03 * 74.15 * 0.5 * (start.stress[0] + strained.stress[0])
    assert strained.energy - start.energy == pytest.approx(work, rel=0.1)


def test_cp2k_in_other_words(tmp_path: Path):
    """The same numbers in the words of version 2025; a dispersion correction; dynamics."""
    text = (OUTPUTS / "hf.cp2k").read_text()
    old = text[text.index(" ATOMIC FORCES in [a.u.]") : text.index(" SUM OF ATOMIC FORCES")]
    new = (
        " FORCES| Atomic forces [hartree/bohr]\n"
        " FORCES|   Atom     x               y               z               |f|\n"
        " FORCES|      1 -5.96469000E-03 -2.05357000E-03 -9.28840000E-04  6.37655E-03\n"
        " FORCES|      2  1.39229000E-03 -2.68801000E-03  2.79600000E-05  3.02741E-03\n"
    )
    path = tmp_path / "new.out"
    path.write_text(text.replace(old, new, 1).replace("energy [a.u.]:    ", "energy [hartree]  "))
    for one, two in zip(read_output(path, "cp2k").steps, read_output(OUTPUTS / "hf.cp2k", "cp2k").steps, strict=True):
        assert one.energy == two.energy
        np.testing.assert_array_equal(one.forces, two.forces)
    vdw = (
        " vdW POTENTIAL|          DFT-D3 (Version 3.1)\n"
        " vdW POTENTIAL|          BJ Damping: S. Grimme et al\n"
        " FUNCTIONAL| PBE:"
    )
    path.write_text(text.replace(" FUNCTIONAL| PBE:", vdw))
    assert read_output(path, "cp2k").settings["dispersion"] == "DFT-D3, BJ Damping"
    path.write_text(text.replace(" FUNCTIONAL| PBE:", vdw, 1))
    with pytest.raises(ValueError, match="differ in functional or cutoff"):
        read_output(path, "cp2k")
    path.write_text(text.replace("ENERGY_FORCE", "MD"))
    with pytest.raises(ValueError, match="type MD prints no positions"):
        read_output(path, "cp2k")


def test_files_of_ase(tmp_path: Path):
    images = walk(3)
    for image in images:
        image.calc.results["free_energy"] = image.calc.results["energy"] - ENTROPY_eV
    for name in ("walk.traj", "walk.db"):
        ase.io.write(tmp_path / name, images)
        steps = read_output(tmp_path / name, format_of(tmp_path / name)).steps
        for step, image in zip(steps, images, strict=True):
            assert step.energy == pytest.approx(image.calc.results["free_energy"], abs=1e-9)
            np.testing.assert_allclose(step.forces, image.calc.results["forces"], atol=1e-12)
            np.testing.assert_allclose(step.stress, image.calc.results["stress"], atol=1e-12)


def test_virial_in_extxyz(tmp_path: Path):
    (image,) = walk(1)
    results, volume = image.calc.results, image.get_volume()
    matrix = results["stress"][[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
    image.info |= {"my_energy": results["energy"], "my_virial": -volume * matrix}
    image.new_array("my_forces", results["forces"])
    image.calc = None
    ase.io.write(tmp_path / "one.extxyz", image)
    keys = {"energy_key": "my_energy", "forces_key": "my_forces", "stress_key": "my_virial"}
    (step,) = read_output(tmp_path / "one.extxyz", "extxyz", **keys).steps
    np.testing.assert_allclose(step.stress, results["stress"], atol=1e-9)
    assert step.energy == pytest.approx(results["energy"])
    with pytest.raises(ValueError, match="no frame has 'REF_energy'; found 'my_energy'"):
        read_output(tmp_path / "one.extxyz", "extxyz")


@pytest.fixture(scope="session")
def need_dpdata() -> None:
    if importlib.util.find_spec("dpdata") is None:
        if "dpdata" in os.environ.get("CURATOR_REQUIRE", "").split(","):
            pytest.fail("dpdata is not installed; pip install dpdata")
        pytest.skip("dpdata is not installed; pip install dpdata")


@pytest.mark.usefixtures("need_dpdata")
@pytest.mark.parametrize("binary", [True, False])
def test_deepmd(tmp_path: Path, binary: bool):
    """Data written by hand, by the description of the format: virials are -dE/dstrain, in eV."""
    images = walk(3)
    folder = tmp_path / "system"
    folder.mkdir()
    symbols = images[0].get_chemical_symbols()
    (folder / "type.raw").write_text("\n".join("0" if s == "F" else "1" for s in symbols))
    (folder / "type_map.raw").write_text("F\nLi\n")
    arrays = {
        "coord": [a.positions.ravel() for a in images],
        "box": [a.cell.array.ravel() for a in images],
        "energy": [a.calc.results["energy"] for a in images],
        "force": [a.calc.results["forces"].ravel() for a in images],
        "virial": [-a.get_volume() * a.calc.results["stress"][[0, 5, 4, 5, 1, 3, 4, 3, 2]] for a in images],
    }
    for name, rows in arrays.items():
        if binary:
            (folder / "set.000").mkdir(exist_ok=True)
            np.save(folder / "set.000" / f"{name}.npy", np.array(rows))
        else:
            np.savetxt(folder / f"{name}.raw", np.array(rows))
    assert format_of(folder) == "deepmd"
    for step, image in zip(read_output(folder, "deepmd").steps, images, strict=True):
        check_same(step, image)


def test_deepmd_without_dpdata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "type.raw").write_text("0")
    monkeypatch.setitem(__import__("sys").modules, "dpdata", None)
    with pytest.raises(ValueError, match="pip install dpdata"):
        read_output(tmp_path, "deepmd")


@pytest.mark.parametrize(
    ("spoil", "flaw"),
    [
        (lambda step: step, None),
        (lambda step: replace(step, forces=None), "incomplete"),
        (lambda step: replace(step, energy=None), "incomplete"),
        (lambda step: replace(step, forces=step.forces[:-1]), "incomplete"),
        (lambda step: replace(step, energy=float("nan")), "nonfinite"),
        (lambda step: replace(step, stress=np.full(6, np.inf)), "nonfinite"),
        (lambda step: replace(step, forces=step.forces + 80.0), "absurd"),
        (lambda step: replace(step, energy=-1e9), "absurd"),
        (lambda step: replace(step, stress=np.full(6, 10.0)), "absurd"),
        (lambda step: replace(step, energy=None, converged=False), "unconverged"),
    ],
)
def test_flaws(spoil: Callable[[Step], Step], flaw: str | None):
    (image,) = walk(1)
    results = image.calc.results
    step = Step(image, results["energy"], results["forces"], results["stress"])
    assert flaw_of(spoil(step)) == flaw


@pytest.mark.parametrize(
    ("energy", "force", "ratio", "words"),
    [
        (1.0, 1.0, 1.0, None),
        (1.0, -1.0, -1.0, "gradients"),
        (1 / 27.211386, 1.0, 1 / 27.211386, "energies in Hartree;"),
        (1.0, 1 / 51.422067, 51.422067, "forces in Hartree/bohr"),
        (1 / 8, 1.0, 1 / 8, "energies per atom"),
        (1.7, 1.0, 1.7, "1.7 times"),
    ],
)
def test_energies_and_forces_of_a_trajectory(energy: float, force: float, ratio: float, words: str | None):
    steps = [
        Step(image, energy * image.calc.results["energy"], force * image.calc.results["forces"]) for image in walk(8)
    ]
    work = work_of(steps)
    assert work is not None
    assert work.n_pairs == 7
    assert work.ratio == pytest.approx(ratio, rel=0.02)
    told = mismatch(work, 8)
    assert told is None if words is None else words in (told or "")


def test_frames_that_are_no_trajectory_tell_nothing_of_units():
    images = [walk(1, seed=seed)[0] for seed in range(6)]
    assert work_of([Step(a, a.calc.results["energy"], a.calc.results["forces"]) for a in images]) is None
    coarse = walk(8, step_A=0.5)
    assert work_of([Step(a, a.calc.results["energy"], a.calc.results["forces"]) for a in coarse]) is None


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("vasprun.xml", "<modeling>\n<generator>", "not readable as vasprun"),
        ("OUTCAR", " vasp.6.3.0\n", "not readable as outcar"),
        ("lif.pwo", "     Program PWSCF v.6.7MaX starts\n", "not readable as espresso"),
        ("cp2k.out", " CP2K| version string\n", "not readable as cp2k"),
        ("notes.txt", "Labels of last week\n", "not recognised.*vasprun, outcar"),
        ("empty.xyz", "", "is empty"),
    ],
)
def test_files_that_hold_nothing(tmp_path: Path, name: str, content: str, words: str):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=words) as told:
        read_output(path, format_of(path))
    assert str(path) in str(told.value)
    with pytest.raises(ValueError, match="no such file"):
        format_of(tmp_path / "missing")
