"""Extended XYZ in and out, with the ``REF_*`` keys that MACE trains on.

Three conventions are met in files: ``REF_energy`` / ``REF_forces`` / ``REF_stress`` or ``REF_virial``; the keys of
ASE's calculators (``energy``, ``forces``, ``stress``), which any later calculation overwrites and which are therefore
taken for a label only if the caller says so; and names of the user's own.

A virial is turned into ASE's stress as ``stress = -virial / volume``, the convention of MACE and quippy; a key is
taken for a virial if its name contains ``virial``.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args
from urllib.parse import quote, unquote

import ase.io
import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from curator.datasets.atomic import atomic_path
from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.datasets.images import read_images
from curator.datasets.isolated import SAME_ENERGY_eV, charge_problem, is_isolated
from curator.datasets.label import GROUPED, Label, Provenance, Record, Split, Theory
from curator.datasets.notice import Notice

STRESS_KEYS = ("REF_stress", "REF_virial", "REF_virials")
GROUP_KEY = "difference_group"
"""Key of a mark that frames share whose differences of energy are to be learnt: a path, a strain series."""
OWN_KEY = "curator"
"""Key in the comment line of our own files: theory, provenance and cost as JSON."""

SAME_LABEL_TOLERANCE = 1e-4
"""Two labels of one frame are the same if energies (eV) and forces (eV/Å) agree within this."""


class MissingLabelError(ValueError):
    """A frame lacks a label, or names it otherwise.

    Attributes
    ----------
    finding
        File, frame, the key that is missing and those that are there.
    what
        ``energy`` or ``forces``.
    calculated
        Whether ASE's calculator results hold it.
    """

    def __init__(self, finding: str, what: str, *, calculated: bool) -> None:
        self.finding, self.what, self.calculated = finding, what, calculated
        remedy = f"name the right one with {what}_key=..."
        if calculated:
            remedy = "pass use_calculator=True if they are labels of this level of theory"
        super().__init__(f"{finding}; {remedy}")


@dataclass(frozen=True, slots=True)
class LabelKeys:
    """Keys under which frames have their labels; of several, the first that a frame has."""

    energy: tuple[str, ...]
    forces: str
    stress: tuple[str, ...]


def label_keys(energy: str | None, forces: str | None, stress: str | None, *, use_calculator: bool) -> LabelKeys:
    """Keys of the labels that a user means, those of MACE by default.

    Of calculator results, the free energy is taken where there is one: ASE's ``energy`` is extrapolated to zero
    smearing, and the forces are not its gradient.

    Raises
    ------
    ValueError
        If keys are given and calculator results asked for.
    """
    if use_calculator:
        if energy or forces or stress:
            raise ValueError("use_calculator takes ASE's own keys; leave out energy_key, forces_key and stress_key")
        return LabelKeys(("free_energy", "energy"), "forces", ("stress", "virial"))
    # A user who names keys of their own does not mean a REF_stress that happens to be in the file as well.
    default_stress = () if energy or forces else STRESS_KEYS
    return LabelKeys((energy or "REF_energy",), forces or "REF_forces", (stress,) if stress else default_stress)


def read_frames(path: Path | str) -> list[Frame]:
    """Structures of a file in any format that ASE reads; labels in it are ignored.

    Raises
    ------
    ValueError
        If the file is missing, empty, unreadable or holds a frame that is none; it names file and frame.
    """
    path = Path(path)
    return [_frame(path, idx, atoms) for idx, atoms in enumerate(read_images(path))]


def read_group_marks(path: Path | str) -> list[str | None]:
    """Mark of the group that each structure of a file belongs to, None where there is none."""
    marks = [atoms.info.get(GROUP_KEY) for atoms in read_images(Path(path))]
    return [None if mark is None else str(mark) for mark in marks]


def read_records(
    path: Path | str,
    *,
    theory: Theory,
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    use_calculator: bool = False,
    split: Split | None = None,
    reason: str = "import",
    group: str | None = None,
) -> list[Record]:
    """Labelled frames of a file.

    Isolated atoms (see `curator.datasets.isolated`) are left out, and read by `read_isolated_atoms`. Repeated frames
    are merged with a warning. Frames that share a value of ``difference_group`` in their info (images of a path, a
    strain series) are kept as a group whose energy differences are learnt.

    Parameters
    ----------
    path
        Extended XYZ, or with ``use_calculator`` any output that ASE reads (``vasprun.xml``, ``OUTCAR``, ...).
    theory
        Level of theory the labels in the file were calculated at.
    energy_key, forces_key, stress_key
        Keys of the labels; ``REF_energy``, ``REF_forces`` and ``REF_stress`` or ``REF_virial`` if None.
    use_calculator
        Take ASE's calculator results for the label.
    split
        Of every record; if None what a file of our own says of each, ``train`` of others.
    reason
        Of every record.
    group
        Trajectory group of every record; the whole file is one group if None.

    Raises
    ------
    ValueError
        If a label is missing, has the wrong shape or is not finite, or a frame comes with two different labels. The
        text names file, frame (counted from 0) and remedy. Nothing is returned of a file with one bad frame.
    """
    path = Path(path)
    keys = label_keys(energy_key, forces_key, stress_key, use_calculator=use_calculator)
    images = read_images(path)
    provenance = Provenance(
        round=-1,
        source=f"import/{path.name}",
        group=group or f"import/{path.name}",
        split=split or "train",
        reason=reason,
    )
    first: dict[str, int] = {}
    records: dict[str, Record] = {}
    repeats: list[str] = []
    for idx, atoms in enumerate(images):
        if is_isolated(atoms):
            continue
        frame = _frame(path, idx, atoms)
        label = _label(path, idx, atoms, theory, keys)
        if frame.hash not in records:
            first[frame.hash] = idx
            origin = replace(provenance, source=f"{provenance.source}#{idx}")
            if split is None and (own := own_provenance(atoms)) is not None:
                origin = replace(origin, split=own.split)
            if (mark := atoms.info.get(GROUP_KEY)) is not None:
                origin = replace(origin, group=f"{origin.group}/{mark}", reason="group")
            records[frame.hash] = Record(frame, label, origin)
            continue
        if not _agree(label, records[frame.hash].label):
            raise ValueError(
                f"{path}: frames {first[frame.hash]} and {idx} are the same structure with different labels; "
                "remove one of them, or import the two levels of theory apart"
            )
        repeats.append(f"{idx} ({first[frame.hash]})")
    if repeats:
        shown = ", ".join(repeats[:5]) + (", ..." if len(repeats) > 5 else "")
        warnings.warn(
            f"{path}: {len(repeats)} frames repeat earlier ones and were merged: {shown}", Notice, stacklevel=2
        )
    if not records:
        raise ValueError(f"{path}: holds isolated atoms only, no frame to learn from")
    return list(records.values())


def read_isolated_atoms(
    path: Path | str, *, energy_key: str | None = None, use_calculator: bool = False
) -> dict[int, float]:
    """Energies in eV of the isolated atoms in a file by atomic number; empty if it holds none.

    Raises
    ------
    ValueError
        If one has no energy or a charge, or two of one element have different energies.
    """
    path = Path(path)
    keys = label_keys(energy_key, None, None, use_calculator=use_calculator)
    found: dict[int, tuple[int, float]] = {}
    for idx, atoms in enumerate(read_images(path)):
        if not is_isolated(atoms):
            continue
        if (problem := charge_problem(atoms)) is not None:
            raise ValueError(f"{path}, frame {idx}: {problem}")
        energy = _energy(path, idx, atoms, keys)
        first, known = found.setdefault(int(atoms.numbers[0]), (idx, energy))
        if abs(energy - known) > SAME_ENERGY_eV:
            raise ValueError(
                f"{path}: frames {first} and {idx} are isolated atoms of {atoms.symbols[0]} with different energies, "
                f"{known:g} and {energy:g} eV; remove one of them"
            )
    return {number: energy for number, (_, energy) in found.items()}


def write_records(path: Path | str, records: Sequence[Record]) -> None:
    """Write records to extended XYZ; `read_own_records` gives them back.

    Frames keep their hash and energies every bit; forces are rounded to 1e-8 eV/Å. Groups whose differences of energy
    are learnt are marked by ``difference_group``, for whoever reads the file as any other. The file appears whole or
    not at all, and is compressed if its name ends in ``.gz``, ``.bz2`` or ``.xz``.
    """
    images = []
    for record in records:
        label, origin = record.label, record.provenance
        atoms = atoms_from_frame(record.frame)
        atoms.info["REF_energy"] = label.energy
        if origin.reason in GROUPED:
            atoms.info[GROUP_KEY] = origin.group
        if is_isolated(record.frame):
            atoms.info["config_type"] = "IsolatedAtom"
        if label.stress is not None:
            atoms.info["REF_stress"] = label.stress
        texts = {"theory": label.theory, "source": origin.source, "group": origin.group, "reason": origin.reason}
        # Percent-encoded, because the format cannot hold quotes and backslashes inside JSON.
        own = {name: quote(text, safe=" !#$&()*+,-./:;<=>?@[]^_`{|}~") for name, text in texts.items()}
        atoms.info[OWN_KEY] = own | {"round": origin.round, "split": origin.split, "cpu_s": label.cpu_s}
        atoms.new_array("REF_forces", label.forces)
        images.append(atoms)
    with atomic_path(Path(path)) as aside:
        ase.io.write(aside, images, format="extxyz")


def read_own_records(path: Path | str) -> list[Record]:
    """Read the records that `write_records` wrote.

    Raises
    ------
    ValueError
        If the file is unreadable or not one of our own.
    """
    path = Path(path)
    keys = label_keys(None, None, None, use_calculator=False)
    records = []
    for idx, atoms in enumerate(read_images(path)):
        own, provenance = atoms.info.get(OWN_KEY), own_provenance(atoms)
        if provenance is None or not {"theory", "cpu_s"} <= own.keys():
            raise ValueError(
                f"{path}, frame {idx}: not written by curator (no '{OWN_KEY}' entry with provenance); "
                "import it with a level of theory instead"
            )
        label = replace(_label(path, idx, atoms, None, keys), theory=unquote(own["theory"]), cpu_s=float(own["cpu_s"]))
        records.append(Record(_frame(path, idx, atoms), label, provenance))
    return records


def own_provenance(atoms: Atoms) -> Provenance | None:
    """Provenance that a frame of a file of our own tells of itself; None if it is of another file."""
    own = atoms.info.get(OWN_KEY)
    if not isinstance(own, dict) or not {"round", "source", "group", "split", "reason"} <= own.keys():
        return None
    if own["split"] not in get_args(Split):
        return None
    source, group, reason = (unquote(str(own[name])) for name in ("source", "group", "reason"))
    return Provenance(int(own["round"]), source, group, own["split"], reason)


def read_own_theory(path: Path | str) -> str | None:
    """Level of theory that a file of our own tells of its frames; None if it is not one of our own.

    Raises
    ------
    ValueError
        If it tells of several, or of some frames only.
    """
    path = Path(path)
    images = [(idx, atoms) for idx, atoms in enumerate(read_images(path)) if not is_isolated(atoms)]
    marks = [(idx, atoms.info.get(OWN_KEY)) for idx, atoms in images]
    told = {idx: unquote(str(mark["theory"])) for idx, mark in marks if isinstance(mark, dict) and "theory" in mark}
    theories = list(dict.fromkeys(told.values()))
    if len(theories) > 1:
        raise ValueError(f"{path}: labels of several levels of theory: {', '.join(theories)}; give each its own file")
    untold = [idx for idx, _ in images if idx not in told]
    if theories and untold:
        raise ValueError(
            f"{path}: {len(untold)} of {len(images)} frames, the first of them {untold[0]}, do not tell their level of "
            f"theory, the others are of {theories[0]}; give each its own file"
        )
    return theories[0] if theories else None


def _frame(path: Path, idx: int, atoms: Atoms) -> Frame:
    try:
        return frame_from_atoms(atoms)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}, frame {idx}: {error}") from error


def value_of(atoms: Atoms, *keys: str) -> Any:
    """Value of the first of the keys that there is, wherever ASE has put it, or None."""
    for key in keys:
        for place in (atoms.info, atoms.arrays, atoms.calc.results if atoms.calc else {}):
            if place.get(key) is not None:
                return place[key]
    return None


def stress_of(atoms: Atoms, keys: Sequence[str]) -> NDArray[np.float64] | None:
    """Stress in ASE's sign and Voigt order under the first of the keys that there is: a virial if the key says so.

    Raises
    ------
    ValueError
        If it is not 6 or 9 numbers, or a virial of a frame without a volume.
    """
    key = next((key for key in keys if value_of(atoms, key) is not None), None)
    if key is None:
        return None
    value = np.asarray(value_of(atoms, key))
    if value.size not in (6, 9) or value.dtype.kind not in "iuf":
        raise ValueError(f"'{key}' must be 6 or 9 numbers, found shape {value.shape}")
    is_virial = "virial" in key.lower()
    if is_virial and atoms.cell.rank < 3:
        raise ValueError(f"'{key}' needs a cell with a volume; give the frame a Lattice")
    stress = value.astype(np.float64).ravel()
    if stress.size == 9:
        stress = full_3x3_to_voigt_6_stress(stress.reshape(3, 3))
    return cast(NDArray[np.float64], -stress / atoms.get_volume()) if is_virial else stress


def missing_label(where: str, atoms: Atoms, key: str, what: str) -> MissingLabelError:
    """Error that tells which keys there are instead."""
    calculated = sorted(atoms.calc.results) if atoms.calc else []
    own = sorted(set(atoms.info) | set(atoms.arrays) - {"numbers", "positions"})
    present = [f"'{name}'" for name in own] + [f"'{name}' (of ASE's calculator)" for name in calculated]
    finding = f"{where} '{key}'; found {', '.join(present) or 'no key at all'}"
    return MissingLabelError(finding, what, calculated=what in calculated)


def _energy(path: Path, idx: int, atoms: Atoms, keys: LabelKeys) -> float:
    key = next((key for key in keys.energy if value_of(atoms, key) is not None), keys.energy[-1])
    value = np.asarray(_required(path, idx, atoms, key, "energy"))
    if value.shape != () or value.dtype.kind not in "iuf" or not np.isfinite(value):
        raise ValueError(f"{path}, frame {idx}: '{key}' must be one finite number, found {value}")
    return float(value)


def _label(path: Path, idx: int, atoms: Atoms, theory: Theory | None, keys: LabelKeys) -> Label:
    energy = _energy(path, idx, atoms, keys)
    forces = np.asarray(_required(path, idx, atoms, keys.forces, "forces"))
    if forces.shape != (len(atoms), 3) or forces.dtype.kind not in "iuf":
        raise ValueError(
            f"{path}, frame {idx}: '{keys.forces}' must be numbers of shape ({len(atoms)}, 3), found {forces.shape}"
        )
    if not np.isfinite(forces).all():
        atom = int(np.argwhere(~np.isfinite(forces))[0, 0])
        raise ValueError(f"{path}, frame {idx}: '{keys.forces}' is not finite at atom {atom}; remove the frame")
    try:
        stress = stress_of(atoms, keys.stress)
    except ValueError as error:
        raise ValueError(f"{path}, frame {idx}: {error}") from error
    if stress is not None and not np.isfinite(stress).all():
        raise ValueError(f"{path}, frame {idx}: the stress is not finite; remove the frame")
    return Label(energy, forces, stress, theory.key if theory else "")


def _required(path: Path, idx: int, atoms: Atoms, key: str, what: str) -> Any:
    value = value_of(atoms, key)
    if value is None:
        raise missing_label(f"{path}, frame {idx}: no", atoms, key, what)
    return value


def _agree(one: Label, other: Label) -> bool:
    return bool(
        abs(one.energy - other.energy) < SAME_LABEL_TOLERANCE
        and np.allclose(one.forces, other.forces, rtol=0.0, atol=SAME_LABEL_TOLERANCE)
    )
