"""The conformance test finds every broken clause, and nothing wrong with a labeller that keeps its contract."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from ase import Atoms

from curator.backends.base import LabelFailed, Labeller, LabellerSpec, NotALabeller, check_labeller, one_line
from curator.backends.labellers import make_labeller
from curator.datasets.label import Label, Theory

Spoil = Callable[[Label | LabelFailed, Atoms], object]


@dataclass
class Broken:
    """A good labeller whose outcome is tampered with; ``n_labels`` counts its calls."""

    spoil: Spoil
    n_labels: int = 0

    good = make_labeller(LabellerSpec("classical", "lif-fumi-tosi"))

    @property
    def theory(self) -> Theory:
        return self.good.theory

    def label(self, atoms: Atoms) -> Label | LabelFailed:
        self.n_labels += 1
        return self.spoil(self.good.label(atoms), atoms)  # type: ignore[return-value]


def on_labels(change: Callable[[Label, Atoms], Label]) -> Spoil:
    return lambda outcome, atoms: change(outcome, atoms) if isinstance(outcome, Label) else outcome


def _move_the_first_atom(label: Label, atoms: Atoms) -> Label:
    atoms.positions[0, 0] += 1e-3
    return label


def _raise_on_failure(outcome: Label | LabelFailed, atoms: Atoms) -> Label | LabelFailed:
    if isinstance(outcome, LabelFailed):
        raise RuntimeError("SCF died")
    return outcome


def _any_label_for_garbage(outcome: Label | LabelFailed, atoms: Atoms) -> Label | LabelFailed:
    return Label(0.0, np.zeros((len(atoms), 3)), None, outcome.theory) if isinstance(outcome, LabelFailed) else outcome


BROKEN: dict[str, tuple[str, Spoil]] = {
    "returns None": ("label: .* returned NoneType", lambda outcome, atoms: None),
    "raises": ("label: label.. raised ZeroDivisionError", lambda outcome, atoms: 1 / 0),
    "never succeeds": ("label: no label but scf", lambda o, a: LabelFailed("scf", "no convergence", o.theory)),
    "names another theory": ("theory: the label names pbe", on_labels(lambda label, a: replace(label, theory="pbe"))),
    "loses an atom": ("shapes", on_labels(lambda label, a: replace(label, forces=label.forces[1:]))),
    "moves atoms": ("unchanged", on_labels(_move_the_first_atom)),
    "leaves notes in info": ("unchanged", on_labels(lambda label, a: (a.info.update(seen=True), label)[1])),
    "depends on the place": (
        "translation: energy",
        on_labels(lambda label, a: replace(label, energy=label.energy + 0.1 * a.positions[0, 2])),
    ),
    "depends on the order": (
        "permutation: forces",
        on_labels(lambda label, a: replace(label, forces=label.forces * np.linspace(0.9, 1.1, len(a))[:, None])),
    ),
    "has wrong forces": (
        "forces: force on atom",
        on_labels(lambda label, a: replace(label, forces=label.forces * 1.1)),
    ),
    "has the sign of pressure": ("stress: stress xx", on_labels(lambda label, a: replace(label, stress=-label.stress))),
    "mixes up shear": (
        "stress: stress yz",
        on_labels(lambda label, a: replace(label, stress=label.stress[[0, 1, 2, 5, 4, 3]])),
    ),
    "labels garbage": ("garbage: .* were given a label", _any_label_for_garbage),
    "raises on garbage": ("garbage: label.. raised RuntimeError: SCF died", _raise_on_failure),
    "fails for no known reason": (
        "garbage: unknown reason .*'bad luck'",
        lambda o, a: replace(o, reason="bad luck") if isinstance(o, LabelFailed) else o,
    ),
    "fails in another theory's name": (
        "theory: the failure names pbe",
        lambda o, a: replace(o, theory="pbe") if isinstance(o, LabelFailed) else o,
    ),
}


@pytest.mark.parametrize(("message", "spoil"), BROKEN.values(), ids=BROKEN)
def test_each_clause_can_fail(cell: Atoms, message: str, spoil: Spoil) -> None:
    with pytest.raises(NotALabeller, match=message):
        check_labeller(Broken(spoil), cell)


def test_a_drifting_labeller_is_not_deterministic(cell: Atoms) -> None:
    drifting = Broken(on_labels(lambda label, a: replace(label, energy=label.energy + 0.01 * drifting.n_labels)))
    with pytest.raises(NotALabeller, match="determinism: energy"):
        check_labeller(drifting, cell)


def test_a_theory_whose_key_changes_is_found(cell: Atoms) -> None:
    class Restless(Broken):
        @property
        def theory(self) -> Theory:
            self.n_labels += 1
            return Theory("pbe", "none", {"look": self.n_labels})

    with pytest.raises(NotALabeller, match="theory: its key changes"):
        check_labeller(Restless(lambda outcome, atoms: outcome), cell)


def test_stress_must_be_given_always_or_never(cell: Atoms) -> None:
    moody = Broken(on_labels(lambda label, a: replace(label, stress=None) if moody.n_labels == 2 else label))
    with pytest.raises(NotALabeller, match="determinism: one label has a stress"):
        check_labeller(moody, cell)
    never = Broken(on_labels(lambda label, a: replace(label, stress=None)))
    check_labeller(never, cell)


def test_a_good_labeller_passes_and_atoms_at_rest_prove_nothing(cell: Atoms) -> None:
    good = make_labeller(LabellerSpec("classical", "lif-fumi-tosi"))
    assert isinstance(good, Labeller)
    check_labeller(good, cell)
    at_rest = Atoms("LiF", [[0, 0, 0], [2, 2, 2]], cell=[[0, 2, 2], [2, 0, 2], [2, 2, 0]], pbc=True)
    with pytest.raises(ValueError, match="rattle them"):
        check_labeller(good, at_rest)


def test_one_line() -> None:
    assert one_line(ValueError("two\n  lines")) == "ValueError: two lines"
    assert len(one_line(ValueError("x" * 1000))) == 300
