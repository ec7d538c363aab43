"""What is tried again, and how, when a calculation fails: one table for each code.

A remedy changes how the answer is found, never what is calculated, so that every label of a theory means the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from curator.backends.base import FailureReason

Input = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Remedy:
    """One step of a ladder.

    Attributes
    ----------
    name
        What is recorded with a label that it helped to.
    helps
        Failures for which it is tried.
    changes
        Input that is changed, by section and key; that of the steps before stays changed.
    first
        Further changes for a calculation before the real one, which begins from its charge density; none if empty.
    """

    name: str
    helps: tuple[FailureReason, ...]
    changes: Input = field(default_factory=dict)
    first: Input = field(default_factory=dict)


LADDERS: Mapping[str, tuple[Remedy, ...]] = {
    "espresso": (
        Remedy("the same again", ("crash",)),
        Remedy(
            "more steps, mixing 0.2",
            ("scf",),
            {"electrons": {"electron_maxstep": 200, "mixing_beta": 0.2, "mixing_ndim": 12}},
        ),
        Remedy("less memory", ("memory",), {"electrons": {"diagonalization": "cg", "mixing_ndim": 4}}),
        Remedy(
            "local Thomas-Fermi mixing 0.1, conjugate gradients",
            ("scf", "crash"),
            {
                "electrons": {
                    "electron_maxstep": 300,
                    "mixing_beta": 0.1,
                    "mixing_mode": "local-TF",
                    "diagonalization": "cg",
                }
            },
        ),
        Remedy(
            "from the density of a smeared calculation",
            ("scf",),
            {"electrons": {"mixing_mode": "plain", "startingpot": "file"}},
            first={
                "control": {"disk_io": "low"},
                "electrons": {"startingpot": "atomic"},
                "system": {"occupations": "smearing", "smearing": "gaussian", "degauss": 0.02},
            },
        ),
    ),
    "vasp": (
        Remedy("the same again", ("crash",)),
        Remedy("more steps, mixing 0.2", ("scf",), {"incar": {"NELM": 200, "AMIX": 0.2, "BMIX": 0.0001}}),
        Remedy("conjugate gradients on all bands", ("scf", "crash"), {"incar": {"NELM": 300, "ALGO": "All"}}),
        Remedy(
            "from the density of a smeared calculation",
            ("scf",),
            {"incar": {"ALGO": "Normal", "ICHARG": 1}},
            first={"incar": {"ICHARG": 2, "LCHARG": True, "ISMEAR": 0, "SIGMA": 0.2}},
        ),
    ),
    "gpaw": (
        Remedy("the same again", ("crash",)),
        Remedy(
            "more steps, mixing 0.02",
            ("scf",),
            {"gpaw": {"maxiter": 500, "mixer": {"backend": "pulay", "beta": 0.02, "nmaxold": 8, "weight": 100.0}}},
        ),
        Remedy("less memory", ("memory",), {"gpaw": {"eigensolver": {"name": "rmm-diis", "blocksize": 1}}}),
    ),
}


def next_remedy(code: str, reason: FailureReason, tried: Sequence[Remedy]) -> Remedy | None:
    """The next step of a code's ladder for a failure; None at its end.

    A step is tried once, and never one that comes before a step that was tried already.
    """
    ladder = LADDERS.get(code, ())
    left = ladder[1 + max((ladder.index(remedy) for remedy in tried), default=-1) :]
    return next((remedy for remedy in left if reason in remedy.helps), None)


def merged(*inputs: Input) -> dict[str, dict[str, object]]:
    """Input by section and key, of which later ones win."""
    result: dict[str, dict[str, object]] = {}
    for each in inputs:
        for section, values in each.items():
            result.setdefault(section, {}).update(values)
    return result
