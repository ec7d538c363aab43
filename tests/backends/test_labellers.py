"""Every labeller we ship keeps the contract, and refuses with a reason."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator

from curator.backends.base import LabelFailed, LabellerSpec, check_labeller
from curator.backends.labellers import (
    CalculatorLabeller,
    label_frame,
    labeller_calculator,
    make_labeller,
    publish_outcome,
)
from curator.backends.pseudolabel import CHGNET_MODELS, chgnet_theory
from curator.datasets.frame import frame_from_atoms
from curator.datasets.journal import Journal, acquire
from curator.datasets.label import Label, Provenance, Theory
from curator.learners.architecture import Architecture, Head, build_module
from curator.learners.mace import MaceModel

FUMI_TOSI = LabellerSpec("classical", "lif-fumi-tosi")
CHGNET = {version: LabellerSpec("pseudolabel", f"chgnet:{version}", device="cpu") for version in CHGNET_MODELS}


@pytest.fixture(scope="module")
def mace(tmp_path_factory: pytest.TempPathFactory) -> LabellerSpec:
    """A small MACE with random weights, saved as a user would have it."""
    architecture = Architecture(
        atomic_numbers=(3, 9),
        r_max=3.5,
        heads=(Head("target", (-1.25, -3.5), scale=20.0, shift=0.1),),
        avg_num_neighbors=18.0,
        hidden_irreps="8x0e",
        mlp_irreps="4x0e",
        radial_mlp=(8,),
        pair_repulsion=True,
    )
    folder = tmp_path_factory.mktemp("models") / "mine"
    MaceModel(architecture, build_module(architecture, seed=3)).save(folder)
    return LabellerSpec("pseudolabel", str(folder), device="cpu")


@pytest.mark.parametrize("spec", [FUMI_TOSI, *CHGNET.values()], ids=lambda spec: spec.model)
def test_keeps_the_contract(spec: LabellerSpec, cell: Atoms) -> None:
    check_labeller(make_labeller(spec), cell)


def test_mace_keeps_the_contract(mace: LabellerSpec, cell: Atoms) -> None:
    labeller = make_labeller(mace)
    check_labeller(labeller, cell, force_tolerance_eV_per_A=2e-3)
    assert labeller.theory.method == "mace-mine"
    assert len(labeller.theory.hashes["weights"]) == 64


@pytest.mark.parametrize("version", CHGNET_MODELS)
def test_chgnet_agrees_with_its_own_calculator(version: str, cell: Atoms, capfd: pytest.CaptureFixture[str]) -> None:
    label = label_frame(CHGNET[version], frame_from_atoms(cell))
    assert isinstance(label, Label)
    assert capfd.readouterr().out == ""  # CHGNet announces itself; a program may be reading our output

    from chgnet.model.dynamics import CHGNetCalculator
    from chgnet.model.model import CHGNet

    cell.calc = CHGNetCalculator(CHGNet.load(model_name=version, use_device="cpu"), use_device="cpu")
    assert label.energy == pytest.approx(cell.get_potential_energy(), abs=1e-4)
    np.testing.assert_allclose(label.forces, cell.get_forces(), atol=1e-4)
    np.testing.assert_allclose(label.stress, cell.get_stress(), atol=1e-5)


def test_theories_are_told_apart_by_their_weights() -> None:
    theories = [make_labeller(spec).theory for spec in (FUMI_TOSI, *CHGNET.values())]
    assert len({theory.key for theory in theories}) == 4
    assert len({theory.hashes["weights"] for theory in theories[1:]}) == 3
    # The weights of r2SCAN in the wheel of CHGNet 0.4.2: another file under the same name is another theory.
    assert chgnet_theory("r2scan").key == "chgnet-r2scan@8495c2746602"


def test_labels_name_their_cost_and_a_labeller_is_made_once() -> None:
    frame = frame_from_atoms(bulk("LiF", "rocksalt", a=4.1))
    label = label_frame(CHGNET["r2scan"], frame)
    assert isinstance(label, Label)
    assert 0.0 < label.cpu_s < 5.0
    assert make_labeller(CHGNET["r2scan"]) is make_labeller(LabellerSpec("pseudolabel", "chgnet:r2scan", "cpu"))


def test_labels_are_published_and_failures_quarantined(cell: Atoms, tmp_path: Path) -> None:
    labeller, origin = make_labeller(FUMI_TOSI), Provenance(0, "test", "g0", "train", "random")
    close = cell.copy()
    close.positions[3] = close.positions[5] + [0.3, 0.0, 0.0]
    with acquire(tmp_path) as fence:
        journal = Journal(tmp_path / "journal", fence)
        for atoms in (cell, close):
            publish_outcome(journal, frame_from_atoms(atoms), labeller.label(atoms), origin, labeller.theory)
    held, key = Journal(tmp_path / "journal"), labeller.theory.key
    label, failure = held.labels(key)[frame_from_atoms(cell).hash], held.failures(key)[frame_from_atoms(close).hash]
    assert label.energy == labeller.calculator.get_potential_energy(cell)
    assert (failure.reason, "0.30 Å apart" in failure.message, failure.provenance) == ("geometry", True, origin)
    assert (len(held.published), len(held.quarantined)) == (1, 1)


def test_memory_does_not_grow(cell: Atoms) -> None:
    """Keeping the energies of these calls alive with their graphs costs 80 MB, their second derivatives 800 MB."""
    labeller, process = make_labeller(CHGNET["r2scan"]), psutil.Process()
    memory = []
    for seed in range(40):
        cell.rattle(0.001, seed=seed)
        assert isinstance(labeller.label(cell), Label)
        memory.append(process.memory_info().rss)
    assert memory[-1] - memory[10] < 30e6


@pytest.mark.parametrize("spec", [FUMI_TOSI, CHGNET["r2scan"]], ids=lambda spec: spec.model)
def test_geometry_that_is_not_worth_a_calculation(
    spec: LabellerSpec, cell: Atoms, capfd: pytest.CaptureFixture[str]
) -> None:
    labeller = make_labeller(spec)

    def failure(atoms: Atoms) -> str:
        outcome = labeller.label(atoms)
        assert isinstance(outcome, LabelFailed)
        assert outcome.reason == "geometry"
        assert outcome.theory == labeller.theory.key
        return outcome.message

    close = cell.copy()
    close.positions[3] = close.positions[5] + [0.3, 0.0, 0.0]
    assert "0.30 Å apart" in failure(close)
    assert "no neighbour within" in failure(Atoms("Li", cell=[20.0] * 3, pbc=True))
    nowhere = cell.copy()
    nowhere.positions[0, 0] = np.nan
    assert "not finite" in failure(nowhere)
    assert "no cell vector" in failure(Atoms("LiF", [[0, 0, 0], [1.6, 0, 0]], pbc=True))
    assert capfd.readouterr() == ("", "")


class _Fails(Calculator):  # type: ignore[misc]
    def __init__(self, fail: Callable[[], dict[str, object]]) -> None:
        super().__init__()
        self.fail = fail

    def calculate(self, *args: object) -> None:
        self.results = self.fail()


def _raise() -> dict[str, object]:
    raise RuntimeError("CUDA\nout of memory")


@pytest.mark.parametrize(
    ("fail", "reason", "message"),
    [
        (_raise, "memory", "RuntimeError: CUDA out of memory"),
        (lambda: {"energy": 1.0, "forces": np.full((8, 3), np.nan)}, "nonfinite", "not finite"),
        (lambda: {"energy": np.inf, "forces": np.zeros((8, 3))}, "nonfinite", "not finite"),
        (lambda: {"energy": 1.0, "forces": np.zeros((8, 3)), "stress": np.full(6, np.nan)}, "nonfinite", "not finite"),
        (lambda: {"energy": 1.0}, "crash", "KeyError: 'forces'"),
    ],
)
def test_a_calculation_that_fails_is_a_value(
    cell: Atoms, fail: Callable[[], dict[str, object]], reason: str, message: str
) -> None:
    outcome = CalculatorLabeller(Theory("pbe", "none"), _Fails(fail), 6.0).label(cell)
    assert isinstance(outcome, LabelFailed)
    assert outcome.reason == reason
    assert message in outcome.message


@pytest.mark.parametrize("spec", [FUMI_TOSI, CHGNET["r2scan"]], ids=lambda spec: spec.model)
def test_what_a_labeller_does_not_know_is_a_value(spec: LabellerSpec) -> None:
    salt = bulk("NaCl", "rocksalt", a=5.6) if spec is FUMI_TOSI else bulk("LiF", "rocksalt", a=4.1)
    salt.pbc = [True, True, spec is FUMI_TOSI]
    outcome = make_labeller(spec).label(salt)
    assert isinstance(outcome, LabelFailed)
    assert "knows Li and F only" in outcome.message or "periodic in three directions" in outcome.message


def test_calculator_is_of_the_same_theory_and_new_each_time(cell: Atoms, mace: LabellerSpec) -> None:
    for spec in (FUMI_TOSI, CHGNET["r2scan"], mace):
        label = make_labeller(spec).label(cell)
        assert isinstance(label, Label)
        cell.calc = labeller_calculator(spec)
        assert cell.calc is not labeller_calculator(spec)
        assert cell.get_potential_energy() == pytest.approx(label.energy, abs=1e-5)
        np.testing.assert_allclose(cell.get_stress(), label.stress, atol=1e-7)


@pytest.mark.parametrize("function", [make_labeller, labeller_calculator])
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (LabellerSpec("classical", "nacl"), "there is lif-fumi-tosi"),
        (LabellerSpec("pseudolabel", "chgnet:0.1"), "there are r2scan, 0.3.0, 0.2.0"),
        (LabellerSpec("pseudolabel", "chgnet"), "there are chgnet:r2scan, .*mini-halides, mace:<name>"),
        (LabellerSpec("pseudolabel", "/no/such/model"), "there are chgnet:r2scan"),
    ],
    ids=lambda value: value.model if isinstance(value, LabellerSpec) else "",
)
def test_unknown_names_list_the_known(function: Callable, spec: LabellerSpec, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(spec)


def test_a_pickle_needs_trust(tmp_path: Path) -> None:
    (tmp_path / "some.model").write_bytes(b"not opened")
    with pytest.raises(ValueError, match="--trust"):
        make_labeller(LabellerSpec("pseudolabel", str(tmp_path / "some.model"), "cpu"))


def test_naming_labellers_does_not_load_torch() -> None:
    import subprocess

    code = (
        "import sys; from curator.backends.base import LabellerSpec; from curator.backends.labellers import *;"
        "make_labeller(LabellerSpec('classical', 'lif-fumi-tosi')); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.call([sys.executable, "-c", code]) == 0
