import hashlib
import struct

import numpy as np
import pytest
from ase import Atoms

from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.datasets.label import Label, Provenance, Record, Theory


def water(**changes: object) -> Frame:
    content = {
        "numbers": [8, 1, 1],
        "positions": [[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]],
        "cell": np.zeros((3, 3)),
        "pbc": [False] * 3,
    }
    return Frame(**(content | changes))


def test_hash_is_that_of_the_documented_bytes() -> None:
    frame = Frame([3], [[0.5, -0.25, 1e-8]], np.eye(3) * 2, [True, False, True], charge=-1, multiplicity=2)
    content = struct.pack("<i", 3)
    content += struct.pack("<3q", 50_000_000, -25_000_000, 1)
    content += struct.pack("<9q", *(np.eye(3).ravel() * 200_000_000).astype(int))
    content += bytes([1, 0, 1]) + struct.pack("<2i", -1, 2)
    assert frame.hash == hashlib.sha256(content).hexdigest()


def test_hash_sees_every_part_and_nothing_below_the_quantum() -> None:
    frame = water()
    changed = [
        water(numbers=[8, 1, 2]),
        water(positions=frame.positions + np.array([0, 0, 1e-8])),
        water(cell=np.eye(3)),
        water(pbc=[True, False, False]),
        water(charge=1),
        water(multiplicity=1),
    ]
    assert len({frame.hash, *(other.hash for other in changed)}) == 7
    assert water(positions=frame.positions + 4e-9) == frame
    assert water(positions=-0.0 * frame.positions).positions.tobytes() == np.zeros((3, 3)).tobytes()


def test_frames_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        water().positions[0, 0] = 1.0


def test_round_trip_through_ase_keeps_charge_and_multiplicity() -> None:
    frame = water(charge=1, multiplicity=2)
    assert frame_from_atoms(atoms_from_frame(frame)) == frame
    assert frame_from_atoms(atoms_from_frame(frame), charge=0) != frame


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"numbers": []}, "at least one atom"),
        ({"positions": np.zeros((2, 3))}, "3 atoms do not go with"),
        ({"positions": np.full((3, 3), np.nan)}, "finite"),
        ({"cell": np.zeros((2, 3))}, "do not go with"),
    ],
)
def test_what_is_no_frame_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        water(**changes)


def test_a_fraction_of_a_charge_is_refused() -> None:
    atoms = Atoms("Li")
    atoms.info["charge"] = 0.5
    with pytest.raises(ValueError, match="charge must be a whole number"):
        frame_from_atoms(atoms)


def test_theory_key_follows_settings_and_weights_but_not_versions() -> None:
    theory = Theory("pbe", "espresso", {"ecut_eV": 500, "k": [2, 2, 2]}, {"Li": "ab"}, {"pw.x": "7.3"})
    assert theory.key == Theory("pbe", "espresso", {"k": [2, 2, 2], "ecut_eV": 500}, {"Li": "ab"}, {"pw.x": "7.4"}).key
    others = [
        Theory("pbe", "espresso", {"ecut_eV": 501, "k": [2, 2, 2]}, {"Li": "ab"}).key,
        Theory("pbe", "espresso", {"ecut_eV": 500, "k": [2, 2, 2]}, {"Li": "cd"}).key,
        Theory("pbe", "vasp", {"ecut_eV": 500, "k": [2, 2, 2]}, {"Li": "ab"}).key,
    ]
    assert theory.key not in others
    assert theory.key.startswith("pbe@")


def test_labels_and_records_must_fit() -> None:
    with pytest.raises(ValueError, match="finite"):
        Label(np.inf, np.zeros((3, 3)), None, "pbe@0")
    with pytest.raises(ValueError, match="Voigt"):
        Label(0.0, np.zeros((3, 3)), np.zeros(9), "pbe@0")
    with pytest.raises(ValueError, match="2 forces for a frame of 3 atoms"):
        Record(water(), Label(0.0, np.zeros((2, 3)), None, "pbe@0"), Provenance(0, "", "", "train", ""))
