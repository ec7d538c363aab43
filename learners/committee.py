"""Committees: several models of the same data, whose disagreement tells where data is missing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curator.datasets.frame import Frame
from curator.datasets.label import Record
from curator.learners.base import Want
from curator.learners.e0 import is_isolated_atom
from curator.learners.mace import MaceModel


@dataclass(frozen=True, slots=True, eq=False)
class CommitteePrediction:
    """What every member says of one frame.

    Attributes
    ----------
    energies
        eV, shape ``(n_members,)``. Members may differ in their E0s: compare differences between frames only.
    forces
        eV/Å, shape ``(n_members, n_atoms, 3)``, or None.
    stress
        eV/Å³, shape ``(n_members, 6)``, or None.
    node_features
        Of the first member, shape ``(n_atoms, n_features)``, or None.
    """

    energies: NDArray[np.float64]
    forces: NDArray[np.float64] | None
    stress: NDArray[np.float64] | None
    node_features: NDArray[np.float32] | None


def bootstrap(train: Sequence[Record], seed: int) -> list[Record]:
    """Draw as many records as there are, with replacement.

    Anchors and isolated atoms are all kept, once: every member has to know the hop and the zero of energy.
    """
    kept = [i for i, record in enumerate(train) if record.provenance.reason == "anchor" or is_isolated_atom(record)]
    drawn_from = sorted(set(range(len(train))) - set(kept))
    # Not [seed, epoch], which orders the frames of an epoch; zeros at the end do not count.
    rng = np.random.default_rng([seed, 0, 1])
    drawn = rng.choice(drawn_from, size=len(drawn_from)).tolist() if drawn_from else []
    return [train[i] for i in sorted(kept + drawn)]


def predict_committee(
    models: Sequence[MaceModel],
    frames: Sequence[Frame],
    want: Sequence[Want] = ("energy", "forces"),
    *,
    batch_size: int = 8,
) -> list[CommitteePrediction]:
    """Predictions of all members, in the order of ``frames``; members of one architecture share the graphs."""
    first = models[0]
    shared = all(model.elements == first.elements and model.r_max == first.r_max for model in models)
    found = []
    for start in range(0, len(frames), batch_size):
        part = frames[start : start + batch_size]
        graphs = [first.graph(frame) for frame in part]
        members = [
            model.predict_graphs(graphs if shared else [model.graph(frame) for frame in part], want) for model in models
        ]
        for of_frame in zip(*members, strict=True):
            forces = [p.forces for p in of_frame if p.forces is not None]
            stress = [p.stress for p in of_frame if p.stress is not None]
            found.append(
                CommitteePrediction(
                    energies=np.array([p.energy for p in of_frame]),
                    forces=np.stack(forces) if forces else None,
                    stress=np.stack(stress) if stress else None,
                    node_features=of_frame[0].node_features,
                )
            )
    return found
