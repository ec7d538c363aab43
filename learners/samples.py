"""Labelled frames as training batches, and the loss of a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray

from curator.datasets.label import GROUPED, Record
from curator.learners.architecture import Architecture
from curator.learners.graphs import Batch, Graph, collate, frame_graph
from curator.learners.strategies import LossWeights


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A graph with what the model should say of it.

    Attributes
    ----------
    graph
        The frame's graph.
    head
        Index of the head that learns it.
    energy
        Interaction energy in eV: the label less the head's E0s.
    forces
        eV/Å, shape ``(n_atoms, 3)``.
    stress
        eV/Å³, shape ``(3, 3)``, or None.
    group
        Group whose differences of total energy count, or None.
    origin
        What a person knows the frame by: formula, source and the first digits of its hash.
    """

    graph: Graph
    head: int
    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None
    group: str | None = None
    origin: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledBatch:
    """Several samples as tensors; ``inputs`` must be copied for each forward pass, which writes to it."""

    inputs: Batch
    n_atoms: torch.Tensor
    energy: torch.Tensor
    forces: torch.Tensor
    stress: torch.Tensor | None
    has_stress: torch.Tensor
    group: torch.Tensor | None


def make_samples(
    records: Sequence[Record],
    architecture: Architecture,
    head: int,
    graphs: dict[str, Graph],
    *,
    differences: bool = False,
) -> list[Sample]:
    """Make samples of records for one head; graphs are looked up in, or added to, ``graphs`` by frame hash.

    Raises
    ------
    ValueError
        If ``differences`` of energy are to count within groups and the frames of one differ in composition or charge.
    """
    if differences:
        _check_groups(records)
    e0s = architecture.e0_table()[head]
    samples = []
    for record in records:
        frame, label = record.frame, record.label
        key = frame.hash
        if key not in graphs:
            graphs[key] = frame_graph(frame, elements=architecture.atomic_numbers, r_max=architecture.r_max)
        graph = graphs[key]
        stress = label.stress if graph.periodic else None
        samples.append(
            Sample(
                graph=graph,
                head=head,
                energy=label.energy - float(e0s[graph.element_idx.numpy()].sum()),
                forces=label.forces,
                stress=None if stress is None else stress[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]],
                group=group_of(record) if differences else None,
                origin=frame_name(record),
            )
        )
    return samples


def frame_name(record: Record) -> str:
    """Formula, source and the first digits of the hash of a frame."""
    numbers = record.frame.numbers.tolist()
    formula = "".join(f"{chemical_symbols[z]}{numbers.count(z)}" for z in sorted(set(numbers)))
    return f"{formula} of {record.provenance.source} ({record.frame.hash[:12]})"


def group_of(record: Record) -> str | None:
    """Group within which the differences of energy of a frame are learnt, if it is in one."""
    return record.provenance.group if record.provenance.reason in GROUPED else None


def _check_groups(records: Sequence[Record]) -> None:
    first: dict[str, Record] = {}
    for record in records:
        group = group_of(record)
        if group is None:
            continue
        a, b = first.setdefault(group, record).frame, record.frame
        if a.charge != b.charge or sorted(a.numbers.tolist()) != sorted(b.numbers.tolist()):
            raise ValueError(
                f"frames of the group {group!r} differ in composition or charge, so their energies cannot be compared; "
                "give each its own group"
            )


def batch_indices(groups: Sequence[str | None], batch_size: int, rng: np.random.Generator) -> list[list[int]]:
    """Shuffled batches of sample indices in which members of a group keep together.

    A group is dealt, in a new order each time, into runs of at most ``batch_size``; single frames fill up.
    """
    members: dict[str, list[int]] = {}
    runs: list[list[int]] = []
    for idx, group in enumerate(groups):
        if group is None:
            runs.append([idx])
        else:
            members.setdefault(group, []).append(idx)
    for idx_of_group in members.values():
        order = rng.permutation(idx_of_group).tolist()
        n_runs = -(-len(order) // batch_size)
        runs += [order[i::n_runs] for i in range(n_runs)]
    batches: list[list[int]] = [[]]
    for i in rng.permutation(len(runs)):
        if batches[-1] and len(batches[-1]) + len(runs[i]) > batch_size:
            batches.append([])
        batches[-1] += runs[i]
    return batches


def make_batch(
    samples: Sequence[Sample], *, n_elements: int, dtype: torch.dtype, device: torch.device | str
) -> LabelledBatch:
    """Collate samples; stress is left out if none of them has one."""
    inputs = collate(
        [s.graph for s in samples], [s.head for s in samples], n_elements=n_elements, dtype=dtype, device=device
    )

    def tensor(values: object) -> torch.Tensor:
        return torch.as_tensor(values, dtype=dtype, device=device)

    has_stress = [s.stress is not None for s in samples]
    zero = np.zeros((3, 3))
    groups = {name: i for i, name in enumerate(dict.fromkeys(s.group for s in samples if s.group is not None))}
    return LabelledBatch(
        inputs=inputs,
        n_atoms=tensor([s.graph.n_atoms for s in samples]),
        energy=tensor([s.energy for s in samples]),
        forces=tensor(np.concatenate([s.forces for s in samples])),
        stress=tensor(np.stack([zero if s.stress is None else s.stress for s in samples])) if any(has_stress) else None,
        has_stress=torch.tensor(has_stress, device=device),
        group=torch.tensor([-1 if s.group is None else groups[s.group] for s in samples], device=device)
        if groups
        else None,
    )


def run_module(module: torch.nn.Module, batch: LabelledBatch, *, training: bool) -> Mapping[str, torch.Tensor]:
    """One forward pass with forces, and with stress if the batch has any."""
    inputs = dict(batch.inputs)
    # A leaf of its own: mace asks for its gradient.
    inputs["positions"] = inputs["positions"].detach()
    out: Mapping[str, torch.Tensor] = module(
        inputs, training=training, compute_force=True, compute_stress=batch.stress is not None
    )
    return out


def batch_loss(
    out: Mapping[str, torch.Tensor],
    batch: LabelledBatch,
    weights: Sequence[LossWeights],
    *,
    huber_delta: float,
    difference: float,
) -> torch.Tensor:
    """Huber loss of energies per atom, force components and stress components, weighted by head.

    Follows the universal loss of MACE: the force threshold shrinks to 0.7, 0.4 and 0.1 of ``huber_delta`` where the
    reference force exceeds 100, 200 and 300 eV/Å. ``difference`` adds the Huber loss of the errors of total energy
    of an anchor group's members relative to their mean, that is of the group's energy differences, which an energy
    per atom hardly sees: 15 meV over 65 atoms is 0.2 meV/atom.
    """
    head = batch.inputs["head"]
    weight = torch.tensor([[w.energy, w.forces, w.stress] for w in weights], dtype=batch.energy.dtype).to(head.device)
    energy_weight, forces_weight, stress_weight = weight[head].unbind(1)
    energy_error = out["interaction_energy"] - batch.energy
    loss = (energy_weight * _huber(energy_error / batch.n_atoms, huber_delta)).mean()
    reference = torch.linalg.vector_norm(batch.forces, dim=1, keepdim=True)
    delta = huber_delta * (1.0 - 0.3 * sum((reference >= limit).to(reference.dtype) for limit in (100, 200, 300)))
    atom_weight = forces_weight[batch.inputs["batch"]].unsqueeze(1)
    loss = loss + (atom_weight * _huber(out["forces"] - batch.forces, delta)).mean()
    if batch.stress is not None:
        stress_error = _huber(out["stress"] - batch.stress, huber_delta).mean(dim=(1, 2))
        loss = loss + (stress_weight * stress_error * batch.has_stress).mean()
    if difference and batch.group is not None:
        terms = []
        for group in range(int(batch.group.max()) + 1):
            error = energy_error[batch.group == group]
            terms.append(_huber(error - error.mean(), huber_delta))
        loss = loss + difference * torch.cat(terms).sum() / len(energy_error)
    return loss


def _huber(error: torch.Tensor, delta: torch.Tensor | float) -> torch.Tensor:
    size = error.abs()
    return torch.where(size <= delta, 0.5 * error**2, delta * (size - 0.5 * delta))
