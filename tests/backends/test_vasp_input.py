"""What VASP is given: every tag explicit, POTCARs in the order of POSCAR, nothing that would break a label."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pymatgen.io.vasp.inputs import Incar, Kpoints, Poscar
from vasp_stand_in import fake_potcar

from curator.backends.labellers import at_charge, make_labeller
from curator.backends.remedies import LADDERS
from curator.backends.vasp_input import (
    HOW_NOT_WHAT,
    PRESETS,
    VaspSettings,
    find_potcars,
    input_problem,
    order_of,
    tags_of,
    vasp_theory,
    write_input,
)
from curator.config_label import Label as LabelSection
from curator.labelling import labeller_of

Settings = Callable[..., VaspSettings]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Library of fake POTCARs of Li, Li_sv, F and Cl."""
    folder = tmp_path / "potpaw_PBE.fake"
    for name, valence, cutoff_eV in (("Li", 1, 140), ("Li_sv", 3, 499), ("F", 7, 400), ("Cl", 7, 262)):
        (folder / name).mkdir(parents=True)
        (folder / name / "POTCAR").write_text(fake_potcar(name, valence, cutoff_eV))
    return folder


@pytest.fixture
def settings(library: Path) -> Settings:
    """Make settings of LiF."""

    def make(**changes: object) -> VaspSettings:
        potcars = find_potcars(library, {"Li", "F"}, {"Li": "Li_sv"})
        return VaspSettings(**({"potcars": potcars, "functional": "pbe", **PRESETS["pbe"]} | changes))  # type: ignore

    return make


@pytest.fixture
def mixed() -> Atoms:
    """Rattled LiF, fluorine first, its elements in turn."""
    atoms = bulk("LiF", "rocksalt", a=4.03, cubic=True)[[1, 0, 3, 2, 5, 4, 7, 6]]
    atoms.rattle(0.1, seed=2)
    return atoms


def test_files(settings: Settings, mixed: Atoms, library: Path, tmp_path: Path) -> None:
    write_input(mixed, settings(), {}, tmp_path)
    incar = Incar.from_file(tmp_path / "INCAR")
    wanted = {"ENCUT": 520, "EDIFF": 1e-6, "ISMEAR": 0, "SIGMA": 0.01, "ISPIN": 1, "LREAL": False, "NELECT": 40}
    wanted |= {"NSW": 0, "IBRION": -1, "ISIF": 2, "LASPH": True, "LWAVE": False, "NELM": 100, "ICHARG": 2}
    assert {tag: incar[tag] for tag in wanted} == wanted
    assert (incar["GGA"].upper(), incar["PREC"]) == ("PE", "Accurate")
    assert incar.check_params() is None
    kpoints = Kpoints.from_file(tmp_path / "KPOINTS")
    assert (kpoints.style.name, kpoints.kpts[0]) == ("Gamma", (5, 5, 5))  # 2π / (4.03 Å * 0.35/Å) = 4.5
    poscar = Poscar.from_file(tmp_path / "POSCAR")
    assert poscar.site_symbols == ["F", "Li"]
    assert poscar.natoms == [4, 4]
    given = mixed.positions[order_of(mixed)]
    np.testing.assert_allclose(poscar.structure.lattice.matrix, mixed.cell.array, atol=1e-12)
    np.testing.assert_allclose(ase.io.read(tmp_path / "POSCAR").positions, given, atol=1e-10)
    one_after_the_other = [(library / name / "POTCAR").read_text() for name in ("F", "Li_sv")]
    assert (tmp_path / "POTCAR").read_text() == "".join(one_after_the_other)


def test_charge_and_spin(settings: Settings, mixed: Atoms, tmp_path: Path) -> None:
    write_input(mixed, settings(charge=1, multiplicity=2), {}, tmp_path)
    incar = Incar.from_file(tmp_path / "INCAR")
    assert (incar["NELECT"], incar["ISPIN"], incar["NUPDOWN"]) == (39, 2, 1)
    assert sum(incar["MAGMOM"]) == pytest.approx(1.0)
    assert len(incar["MAGMOM"]) == 8


def test_a_change_wins_over_everything(settings: Settings, mixed: Atoms, tmp_path: Path) -> None:
    write_input(mixed, settings(incar={"nelm": 40, "LREAL": "Auto"}), {"NELM": 300, "ALGO": "All"}, tmp_path)
    incar = Incar.from_file(tmp_path / "INCAR")
    assert (incar["NELM"], incar["ALGO"], incar["LREAL"]) == (300, "All", "Auto")


def test_values_by_element_follow_the_order_of_the_frame(settings: Settings, mixed: Atoms, tmp_path: Path) -> None:
    plus_u = settings(incar={"LDAU": True, "LDAUL": {"Li": 0}, "LDAUU": {"Li": 2.5}, "LDAUJ": {}})
    write_input(mixed, plus_u, {}, tmp_path)
    text = (tmp_path / "INCAR").read_text()
    assert "LDAU = .TRUE.\nLDAUL = -1 0\nLDAUU = 0.0 2.5\nLDAUJ = 0.0 0.0\n" in text
    write_input(mixed[[1, 0]], plus_u, {}, tmp_path)
    assert "LDAUL = 0 -1\nLDAUU = 2.5 0.0\n" in (tmp_path / "INCAR").read_text()


def test_left_handed_cells_are_turned_and_not_changed(settings: Settings, tmp_path: Path) -> None:
    atoms = bulk("LiF", "rocksalt", a=4.03)
    atoms.rattle(0.1, seed=1)
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    assert atoms.cell.handedness < 0
    write_input(atoms, settings(), {}, tmp_path)
    written = ase.io.read(tmp_path / "POSCAR")
    assert written.cell.handedness > 0
    np.testing.assert_allclose(written.get_all_distances(mic=True), atoms.get_all_distances(mic=True), atol=1e-9)


@pytest.mark.parametrize(
    ("incar", "message"),
    [
        ({"NSW": 5}, "incar.NSW: .* one configuration at a time"),
        ({"ibrion": 2}, "incar.IBRION: .* one configuration"),
        ({"ISIF": 0}, "incar.ISIF: .* forces and stress are always"),
        ({"ML_LMLFF": True}, "incar.ML_LMLFF"),
        ({"PSTRESS": 10}, "outer pressure"),
        ({"ENCUT": 400}, "label.cutoff_eV"),
        ({"EDIFF": 1e-3}, "label.convergence_eV"),
        ({"SIGMA": 0.2}, "label.smearing_eV"),
        ({"KSPACING": 0.2}, "label.kpoint_spacing_per_A"),
        ({"GGA": "PS"}, "label.functional"),
        ({"NELECT": 39}, "system.charge"),
        ({"MAGMOM": [1.0] * 8}, "system.multiplicity"),
        ({"ICHARG": 11}, "starts from the beginning"),
        ({"NELMM": 5}, "did you mean NELM"),
        ({"LDAUU": [2.5, 0.0]}, "incar.LDAUU: .* by element"),
        ({"AMIX": {"Li": 0.1}}, "incar.AMIX: .* one value"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_tags_that_would_break_a_label(settings: Settings, incar: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(incar=incar)


def test_functional_cutoff_and_potcars_belong_together(settings: Settings, library: Path) -> None:
    with pytest.raises(ValueError, match="is of LEXCH = PE, functional lda needs CA"):
        vasp_theory(settings(functional="lda"))
    with pytest.raises(ValueError, match=r"cutoff_eV: 450 is less than the 499 that PAW_PBE Li_sv .*1\.3 times"):
        vasp_theory(settings(cutoff_eV=450.0))
    with pytest.raises(ValueError, match="functional: 'b3lyp' is unknown; there are lda, pbe"):
        settings(functional="b3lyp")
    assert tags_of(settings(functional="pbesol"))["GGA"] == "PS"
    assert tags_of(settings(functional="r2scan"))["METAGGA"] == "R2SCAN"
    (library / "two").write_text(fake_potcar("F", 7, 400) * 2)
    with pytest.raises(ValueError, match=r"two: is not that of one element"):
        vasp_theory(settings(potcars={"F": str(library / "two")}))


def test_theory_is_what_and_not_how(settings: Settings, library: Path, tmp_path: Path) -> None:
    theory = vasp_theory(settings())
    assert theory.key.startswith("pbe@")
    assert theory.hashes["Li"] == hashlib.sha256((library / "Li_sv" / "POTCAR").read_bytes()).hexdigest()
    how = settings(incar={"ALGO": "All", "NELM": 200, "AMIX": 0.1, "NCORE": 4, "KPAR": 2})
    assert vasp_theory(how).key == theory.key
    other = tmp_path / "POTCAR"
    other.write_text(fake_potcar("Li_sv", 3, 499, note=", another day"))
    for changes in (
        {"cutoff_eV": 521.0},
        {"functional": "pbesol"},
        {"kpoint_spacing_per_A": 0.3},
        {"smearing_eV": 0.05},
        {"charge": 1},
        {"multiplicity": 2},
        {"incar": {"IVDW": 12}},
        {"potcars": settings().potcars | {"Li": str(other)}},
    ):
        assert vasp_theory(settings(**changes)).key != theory.key, changes
    assert vasp_theory(settings(multiplicity=1)).key == theory.key


def test_remedies_change_how_and_not_what() -> None:
    for remedy in LADDERS["vasp"]:
        assert set(remedy.changes.get("incar", {})) <= HOW_NOT_WHAT, remedy.name


def test_potcars_that_are_missing(library: Path) -> None:
    assert find_potcars(library, {"Li"}, {})["Li"].endswith("/Li/POTCAR")
    with pytest.raises(ValueError, match=r"no folder .*licence of VASP"):
        find_potcars(library / "nowhere", {"Li"}, {})
    with pytest.raises(ValueError, match=re.escape("of Li there are Li, Li_sv; choose one with setups: {Li: Li}")):
        find_potcars(library, {"Li"}, {"Li": "Li_pv"})
    with pytest.raises(ValueError, match="of C there are none"):
        find_potcars(library, {"C"}, {})  # and not that of Cl
    with pytest.raises(ValueError, match="POTCAR /no/such: cannot be read"):
        vasp_theory(VaspSettings({"Li": "/no/such"}, "pbe", **PRESETS["pbe"]))


def test_frames_that_vasp_cannot_be_asked_about(settings: Settings, mixed: Atoms) -> None:
    assert input_problem(mixed, settings()) is None
    assert "no POTCAR of Na" in str(input_problem(bulk("NaF", "rocksalt", a=4.6), settings()))
    odd = mixed[:7]
    assert "37 electrons" in str(input_problem(odd, settings()))
    assert "label.smearing_eV" in str(input_problem(odd, settings()))
    for allowed in ({"smearing_eV": 0.05}, {"multiplicity": 2}):
        assert input_problem(odd, settings(**allowed)) is None
    odd.info["charge"] = 1
    assert "charge of +1" in str(input_problem(odd, settings(multiplicity=2)))
    assert input_problem(odd, settings(charge=1)) is None
    assert "three cell vectors" in str(input_problem(Atoms("LiF", [(0, 0, 0), (1.6, 0, 0)]), settings()))


def test_section_of_a_campaign_file(library: Path) -> None:
    section = LabelSection.model_validate(
        {
            "kind": "dft",
            "code": "vasp",
            "pseudopotentials": library.name,
            "setups": {"Li": "Li_sv"},
            "functional": "pbesol",
            "cutoff_eV": 600,
            "incar": {"NCORE": 4},
            "command": "mpirun -np 16 vasp_std",
        }
    )
    spec = labeller_of(section, {"Li", "F"}, library.parent, charge=1)
    labeller = make_labeller(spec)
    assert labeller.theory.method == "pbesol"
    assert (labeller.settings.cutoff_eV, labeller.settings.charge) == (600, 1)
    assert make_labeller(at_charge(spec, 0, 2)).settings == replace(labeller.settings, charge=0, multiplicity=2)
    with pytest.raises(ValueError, match="runs no vasp; give for instance: mpirun"):
        make_labeller(replace(spec, command="mpirun -np 16 pw.x"))
    with pytest.raises(ValueError, match="pseudopotentials: is missing; name your library"):
        labeller_of(LabelSection(kind="dft", code="vasp"), {"Li"}, library)
    with pytest.raises(ValueError, match="cutoff_Ry means nothing to vasp"):
        LabelSection(kind="dft", code="vasp", cutoff_Ry=90)
