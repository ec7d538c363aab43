"""What is known of a frame: its label, at which level of theory, and how the two came together."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from curator.datasets.frame import Frame

Split = Literal["train", "valid", "test"]


@dataclass(frozen=True, slots=True)
class Theory:
    """Level of theory of a label.

    Attributes
    ----------
    method
        Short name a person knows it by: ``chgnet-r2scan``, ``pbe``, ``lif-fumi-tosi``.
    code
        Program that calculates it: ``chgnet``, ``mace``, ``espresso``, ``curator``.
    settings
        Everything that changes the numbers: cutoffs, k-points, smearing, ...; JSON values.
    hashes
        SHA-256 of model weights or pseudopotential files, by name.
    versions
        Package versions. Recorded, and a change is warned about, but not part of the key: an upgrade must not buy
        every label again.
    details
        What goes with the cell or the elements, such as k-points and pseudopotentials by element. Recorded, but not
        part of the key: the frames of one level of theory are of many cells and compositions.
    """

    method: str
    code: str
    settings: Mapping[str, object] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Identity of the theory: ``method@`` and 12 digits of the SHA-256 of everything but versions and details."""
        content = [self.method, self.code, dict(self.settings), dict(self.hashes)]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return f"{self.method}@{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """Energy, forces and, if the source gives one, stress of a frame.

    Attributes
    ----------
    energy
        Total energy in eV.
    forces
        float64, shape ``(n_atoms, 3)``, eV/Å.
    stress
        float64, shape ``(6,)``, eV/Å³, ASE's sign and Voigt order, or None.
    theory
        Key of the level of theory.
    cpu_s
        CPU seconds it took to calculate; 0 for an imported label.
    remedy
        What helped a calculation that had failed at first; empty if nothing had to. The journal keeps it, the store
        does not.

    Raises
    ------
    ValueError
        If a number is not finite or the forces have the wrong shape.
    """

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None
    theory: str
    cpu_s: float = 0.0
    remedy: str = ""

    def __post_init__(self) -> None:
        forces = np.array(self.forces, dtype=np.float64)
        stress = None if self.stress is None else np.array(self.stress, dtype=np.float64)
        if forces.ndim != 2 or forces.shape[1] != 3:
            raise ValueError(f"forces must have shape (n_atoms, 3); got {forces.shape}")
        if stress is not None and stress.shape != (6,):
            raise ValueError(f"stress must have shape (6,), Voigt; got {stress.shape}")
        finite = (
            np.isfinite(self.energy) and np.isfinite(forces).all() and (stress is None or np.isfinite(stress).all())
        )
        if not finite:
            raise ValueError("a label must hold finite numbers only")
        forces.setflags(write=False)
        object.__setattr__(self, "energy", float(self.energy))
        object.__setattr__(self, "forces", forces)
        object.__setattr__(self, "stress", stress)


GROUPED = ("anchor", "group")
"""Reasons of frames whose differences of total energy within their group are to be right: a path, a strain series."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a frame comes from and what it is for.

    Attributes
    ----------
    round
        Round of the campaign that bought it; -1 for the set-up before round 0 and for imports.
    source
        What made the frame: ``explore/T900/r1``, ``anchor/saddle``, ``import/file.extxyz``.
    group
        Trajectory group: frames of one group are correlated and always share a split.
    split
        ``train``, ``valid`` or ``test``; set once.
    reason
        Why it was chosen: ``test``, ``exam``, ``random``, ``hop``, ``uncertain``, ``diverse``, ``contact``,
        ``anchor``, ``import``, or ``group`` if whoever brought it marked it as one of a group.
    """

    round: int
    source: str
    group: str
    split: Split
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """A frame, one label of it, and its provenance: what the journal keeps and a learner is given."""

    frame: Frame
    label: Label
    provenance: Provenance

    def __post_init__(self) -> None:
        if len(self.label.forces) != len(self.frame):
            raise ValueError(f"{len(self.label.forces)} forces for a frame of {len(self.frame)} atoms")
