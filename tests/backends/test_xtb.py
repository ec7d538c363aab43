"""GFN-xTB keeps the contract, takes charge and multiplicity from the frame, and refuses with a reason."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from curator.backends.base import LabelFailed, LabellerSpec, check_labeller
from curator.backends.labellers import CalculatorLabeller, make_labeller
from curator.backends.xtb import METHODS, XtbCalculator, xtb_theory
from curator.build import build_plan
from curator.config import CampaignFile
from curator.datasets.frame import frame_from_atoms
from curator.datasets.label import Label
from curator.errors import BadInput
from curator.forecast import GAMMA_POINT_WIDTH_A, _gamma_point_notes

pytest.importorskip("tblite")

XTB = {method: LabellerSpec("semiempirical", method) for method in METHODS}


@pytest.fixture
def water() -> Atoms:
    """Water, far from its minimum."""
    atoms = molecule("H2O")
    atoms.rattle(0.1, seed=2)
    return atoms


def _label(method: str, atoms: Atoms, **info: int) -> Label | LabelFailed:
    atoms = atoms.copy()
    atoms.info.update(info)
    return make_labeller(XTB[method]).label(atoms)


@pytest.mark.parametrize("method", METHODS)
def test_keeps_the_contract(method: str, water: Atoms, capfd: pytest.CaptureFixture[str]) -> None:
    check_labeller(make_labeller(XTB[method]), water)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_keeps_the_contract_in_a_crystal(method: str, cell: Atoms) -> None:
    # At the Gamma point of a cell this small the energy is far from quadratic in the strain.
    check_labeller(make_labeller(XTB[method]), cell, strain=1e-3)


@pytest.mark.parametrize(("method", "energy_eV"), [("gfn1-xtb", -156.96750590), ("gfn2-xtb", -137.96777594)])
def test_energies_are_those_of_tblite_s_own_documentation(method: str, energy_eV: float) -> None:
    label = _label(method, molecule("H2O"))
    assert isinstance(label, Label)
    assert label.energy == pytest.approx(energy_eV, abs=1e-5)
    assert label.stress is None


def test_charge_and_multiplicity_are_those_of_the_frame(water: Atoms) -> None:
    from tblite.ase import TBLite

    for info in ({}, {"charge": 2}, {"charge": 1, "multiplicity": 2}, {"multiplicity": 3}):
        label = _label("gfn1-xtb", water, **info)
        reference = TBLite(method="GFN1-xTB", verbosity=0, **{"charge": 0, **info})
        assert isinstance(label, Label)
        assert label.energy == pytest.approx(reference.get_potential_energy(water.copy()), abs=1e-8)


@pytest.mark.parametrize("info", [{"charge": 1}, {"charge": -1, "multiplicity": 1}])
def test_an_odd_number_of_electrons_needs_its_multiplicity(water: Atoms, info: dict[str, int]) -> None:
    outcome = _label("gfn2-xtb", water, **info)
    assert isinstance(outcome, LabelFailed)
    assert outcome.reason == "input"
    assert f"{8 - info['charge']} electrons cannot all be in pairs" in outcome.message


def test_what_cannot_be_is_told(water: Atoms) -> None:
    outcome = _label("gfn2-xtb", water, multiplicity=2)
    assert isinstance(outcome, LabelFailed)
    assert outcome.reason == "crash"
    assert "electrons (8) and number unpaired electrons (1) is not compatible" in outcome.message
    with pytest.raises(ValueError, match="there are gfn1-xtb, gfn2-xtb"):
        make_labeller(LabellerSpec("semiempirical", "gfn0-xtb"))


def test_no_self_consistency_is_told_from_a_crash(water: Atoms) -> None:
    outcome = CalculatorLabeller(xtb_theory("gfn1-xtb"), XtbCalculator("gfn1-xtb", max_iterations=2), None).label(water)
    assert isinstance(outcome, LabelFailed)
    assert (outcome.reason, "not converged" in outcome.message) == ("scf", True)


def test_it_is_not_called_dft() -> None:
    theories = [make_labeller(spec).theory for spec in XTB.values()]
    assert [theory.key.split("@")[0] for theory in theories] == ["gfn1-xtb", "gfn2-xtb"]
    assert theories[0].code == "tblite"
    assert set(theories[0].versions) == {"tblite"}


def _file(**system: object) -> CampaignFile:
    content = {"system": {"structure": "lif-interstitial", **system}}
    return CampaignFile.model_validate(content | {"label": {"kind": "semiempirical", "model": "gfn1-xtb"}})


def test_a_lattice_is_not_relaxed_at_the_gamma_point_of_a_unit_cell(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"system\.cell: gfn1-xtb is of the Gamma point alone"):
        build_plan(_file(), tmp_path)
    plan = build_plan(_file(cell="foundation", multiplicity=2), tmp_path)
    assert plan.labeller == XTB["gfn1-xtb"]


@pytest.mark.parametrize(("repeats", "told"), [(2, True), (3, False)])
def test_a_note_where_the_gamma_point_is_not_enough(tmp_path: Path, repeats: int, told: bool) -> None:
    plan = build_plan(_file(cell="given"), tmp_path)
    frame = frame_from_atoms(Atoms("LiF", [[0, 0, 0], [2, 0, 0]], cell=repeats * 4.03 * np.eye(3), pbc=True))
    notes = _gamma_point_notes(plan, frame)
    assert len(notes) == told
    assert all(f"takes a cell of {GAMMA_POINT_WIDTH_A:g} Å" in note for note in notes)
