"""Choosing one level of theory of several, and comparing two."""

from dataclasses import replace

import numpy as np
import pytest

from curator.datasets.frame import Frame
from curator.datasets.label import Label, Provenance, Record, Theory
from curator.datasets.theories import (
    choose_theory,
    compare_theories,
    count_theories,
    differences_of,
    levels_of,
    marks_of,
    merged,
    united,
)

COUNTS = {"pbe@1": 3, "pbe@2": 4, "r2scan@3": 5}


def records_of(n_frames: int, noise_eV: float) -> list[Record]:
    """Frames of several compositions with labels of two theories that differ by atomic energies, and by noise."""
    rng = np.random.default_rng(0)
    records = []
    for idx in range(n_frames):
        numbers = np.array([3] * (2 + idx % 3) + [9] * (2 + idx % 2))
        frame = Frame(numbers, rng.uniform(0, 5, (len(numbers), 3)), np.eye(3) * 6, [True] * 3)
        energy, forces = rng.normal(), rng.normal(size=(len(numbers), 3))
        atomic = 7.5 * np.count_nonzero(numbers == 3) - 120.0 * np.count_nonzero(numbers == 9)
        other = energy + atomic + noise_eV * len(numbers) * rng.normal()
        origin = Provenance(-1, "import", "file", "train", "import")
        records.append(Record(frame, Label(energy, forces, None, "pbe@1"), origin))
        records.append(
            Record(frame, Label(other, forces + 0.05 * rng.choice([-1, 1], forces.shape), None, "hse@2"), origin)
        )
    return records


def test_differences_of_two_theories():
    (pair,) = compare_theories(records_of(300, 0.004))
    assert pair.theories == ("pbe@1", "hse@2")
    assert pair.n_frames == 300
    assert pair.force_rms_eV_per_A == pytest.approx(0.05, abs=1e-12)
    # Two standard errors of a standard deviation from 300 numbers are 8 %.
    assert pair.energy_rms_eV_per_atom == pytest.approx(0.004, rel=0.08)
    (pair,) = compare_theories(records_of(30, 0.0))
    assert pair.energy_rms_eV_per_atom == pytest.approx(0.0, abs=1e-12)


def test_as_many_compositions_as_frames_leave_nothing_to_compare():
    # Li3F3 and Li4F2: two atomic energies explain two differences.
    (pair,) = compare_theories(records_of(3, 0.004)[2:])
    assert pair.n_frames == 2
    assert pair.energy_rms_eV_per_atom is None
    assert compare_theories([record for record in records_of(9, 0.0) if record.label.theory == "pbe@1"]) == []


def test_choosing_a_theory():
    assert choose_theory(COUNTS, "pbe@2", "data") == ("pbe@2", ["pbe@2"])
    assert choose_theory(COUNTS, "r2scan", "data") == ("r2scan@3", ["r2scan@3"])
    assert choose_theory({"pbe@1": 3}, None, "data") == ("pbe@1", ["pbe@1"])
    for wanted in (None, "pbe"):
        with pytest.raises(
            ValueError, match=r"--theory: pbe@1 \(3 labels\); pbe@2 \(4 labels\); r2scan@3 \(5 labels\)"
        ):
            choose_theory(COUNTS, wanted, "data")
    with pytest.raises(ValueError, match=r"no labels of 'hse'; there are pbe@1"):
        choose_theory(COUNTS, "hse", "data")
    with pytest.raises(ValueError, match="holds no labels"):
        choose_theory({}, None, "data")
    assert count_theories(records_of(2, 0.0)) == {"pbe@1": 2, "hse@2": 2}


def of(**hashes: str) -> Theory:
    return Theory("pbe", "espresso", {"cutoff_Ry": 90.0}, hashes)


def test_theories_of_other_elements_are_one_level_of_theory():
    lif, naf, licl = of(F="f", Li="l"), of(F="f", Na="n"), of(Cl="c", Li="l")
    whole = united([lif, naf, licl])
    assert whole is not None
    assert whole.key == of(Cl="c", F="f", Li="l", Na="n").key
    assert united([lif]) == lif
    others = (
        of(F="f", Li="another file"),
        replace(naf, settings={"cutoff_Ry": 60.0}),
        replace(naf, method="pbesol"),
        replace(naf, code="vasp"),
        replace(naf, hashes={}),
        replace(naf, hashes={"weights": "w"}),
    )
    assert [united([lif, other]) for other in others] == [None] * len(others)


def test_choosing_a_level_of_theory_of_several_parts():
    lif, naf, other = of(F="f", Li="l"), of(F="f", Na="n"), of(F="f", Li="another file")
    whole = of(F="f", Li="l", Na="n").key
    known = {theory.key: theory for theory in (lif, naf, other)}
    counts = {lif.key: 2, other.key: 3, naf.key: 4}
    assert levels_of(counts, known) == {whole: [lif.key, naf.key], other.key: [other.key]}
    licl = of(Cl="c", Li="l")
    grown, with_licl = known | {licl.key: licl}, counts | {licl.key: 5}
    assert choose_theory(with_licl, whole, "data", grown)[1] == [lif.key, naf.key, licl.key]
    for wanted in (whole, lif.key, naf.key):
        assert choose_theory(counts, wanted, "data", known) == (whole, [lif.key, naf.key])
    assert choose_theory(counts, other.key, "data", known) == (other.key, [other.key])
    with pytest.raises(
        ValueError, match=rf"--theory: {whole} \(6 labels, file.*\); {other.key} \(3 labels, file of Li another "
    ):
        choose_theory(counts, "pbe", "data", known)
    # Of theories that nobody has described nothing is known to agree.
    assert list(levels_of(counts, {})) == list(counts)


def test_what_tells_levels_of_theory_apart():
    lif, naf = of(F="f", Li="l"), of(F="f", Na="n")
    coarse = replace(lif, settings={"input": {"system": {"cutoff_Ry": 60.0, "nosym": True}}})
    fine = replace(lif, settings={"input": {"system": {"cutoff_Ry": 90.0}}})
    other = replace(lif, method="pbesol")
    theories = {theory.key: theory for theory in (coarse, fine, other)} | {"pbe@unknown": None}
    assert marks_of(theories) == {
        coarse.key: ["cutoff_Ry 60.0", "nosym True"],
        fine.key: ["cutoff_Ry 90.0"],
        other.key: [],
        "pbe@unknown": [],
    }
    assert marks_of({lif.key: lif, naf.key: naf}) == {lif.key: [], naf.key: []}
    swapped = of(F="f", Li="another")
    assert marks_of({lif.key: lif, swapped.key: swapped})[swapped.key] == ["file of Li another"]


def test_what_contradicts_and_what_only_differs():
    one = Theory("pbe", "vasp", {"cutoff_eV": 520.0}, details={"kpoints": [2, 2, 2], "potentials": {"Li": "Li_sv"}})
    other = Theory("pbe", "vasp", {"cutoff_eV": 520.0}, details={"kpoints": [4, 4, 4], "potentials": {"F": "F"}})
    assert one.key == other.key
    assert differences_of(one, other) == []
    both = merged(one, other)
    assert both.details == {"kpoints": [4, 4, 4], "potentials": {"Li": "Li_sv", "F": "F"}}
    third = Theory("pbe", "vasp", {"cutoff_eV": 400.0}, details={"potentials": {"F": "F_h"}})
    assert differences_of(both, third) == ["cutoff_eV: 520.0 and 400.0", "potentials of F: F and F_h"]
