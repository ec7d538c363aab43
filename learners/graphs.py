"""Frames as the graphs a MACE module reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase.data import chemical_symbols
from mace.data.neighborhood import get_neighborhood
from numpy.typing import NDArray

from curator.datasets.frame import Frame

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Neighbour graph of one frame.

    Attributes
    ----------
    element_idx
        Index of each atom's element in the model's table, int64, shape ``(n_atoms,)``.
    positions
        Å, float64, shape ``(n_atoms, 3)``.
    cell
        Lattice vectors as rows in Å, float64, shape ``(3, 3)``; a non-periodic direction is made long.
    edge_index
        Sender and receiver, sorted by receiver, int64, shape ``(2, n_edges)``.
    unit_shifts
        Lattice translations of the receivers, float32 (they are small integers), shape ``(n_edges, 3)``.
    periodic
        Whether all three directions are periodic, without which there is no stress.
    """

    element_idx: torch.Tensor
    positions: torch.Tensor
    cell: torch.Tensor
    edge_index: torch.Tensor
    unit_shifts: torch.Tensor
    periodic: bool

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.element_idx)


def element_indices(numbers: NDArray[np.int32], elements: Sequence[int]) -> NDArray[np.int64]:
    """Index of each atomic number in the ascending table ``elements``.

    Raises
    ------
    ValueError
        If an element is not in the table.
    """
    table = np.asarray(elements)
    idx = np.searchsorted(table, numbers).clip(max=len(table) - 1)
    unknown = np.unique(np.asarray(numbers)[table[idx] != numbers])
    if len(unknown):
        known = ", ".join(chemical_symbols[z] for z in table)
        names = ", ".join(chemical_symbols[z] for z in unknown)
        raise ValueError(f"the model does not know {names}; it knows {known}. Choose another foundation model")
    return idx.astype(np.int64)


def build_graph(
    numbers: NDArray[np.int32],
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
    pbc: NDArray[np.bool_],
    *,
    elements: Sequence[int],
    r_max: float,
) -> Graph:
    """Graph of all pairs closer than ``r_max`` Å, periodic images included (matscipy's neighbour list)."""
    # get_neighborhood writes into the cell it is given. It sorts by the first atom of a pair, and both directions of
    # each pair are there: taking the first for the receiver sorts by receiver, as ScalarConvolution needs it.
    pairs, _, unit_shifts, long_cell = get_neighborhood(positions, r_max, tuple(map(bool, pbc)), np.array(cell))
    receiver, sender = pairs
    return Graph(
        element_idx=torch.from_numpy(element_indices(numbers, elements)),
        positions=torch.tensor(positions, dtype=torch.float64),
        cell=torch.tensor(long_cell, dtype=torch.float64),
        edge_index=torch.from_numpy(np.stack([sender, receiver]).astype(np.int64, copy=False)),
        unit_shifts=torch.from_numpy(-unit_shifts.astype(np.float32)),
        periodic=bool(np.all(pbc)),
    )


def frame_graph(frame: Frame, *, elements: Sequence[int], r_max: float) -> Graph:
    """Graph of a frame."""
    return build_graph(frame.numbers, frame.positions, frame.cell, frame.pbc, elements=elements, r_max=r_max)


def collate(
    graphs: Sequence[Graph],
    head_idx: Sequence[int],
    *,
    n_elements: int,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
) -> Batch:
    """Several graphs as one disjoint graph, in the dictionary that mace's modules take.

    The dictionary is good for one forward pass: mace writes to it.
    """
    sizes = [graph.n_atoms for graph in graphs]
    ptr = torch.zeros(len(graphs) + 1, dtype=torch.int64)
    ptr[1:] = torch.cumsum(torch.tensor(sizes), 0)
    if len(graphs) == 1:
        (graph,) = graphs
        edge_index = graph.edge_index
        unit_shifts = graph.unit_shifts.to(dtype)
        shifts = unit_shifts @ graph.cell.to(dtype)
        positions, cell, element_idx = graph.positions.to(dtype, copy=True), graph.cell.to(dtype), graph.element_idx
        batch = torch.zeros(sizes[0], dtype=torch.int64)
    else:
        edge_index = torch.cat([g.edge_index + int(start) for g, start in zip(graphs, ptr[:-1], strict=True)], 1)
        unit_shifts = torch.cat([g.unit_shifts for g in graphs]).to(dtype)
        shifts = torch.cat([g.unit_shifts.to(dtype) @ g.cell.to(dtype) for g in graphs])
        positions = torch.cat([g.positions for g in graphs]).to(dtype)
        cell = torch.cat([g.cell for g in graphs]).to(dtype)
        element_idx = torch.cat([g.element_idx for g in graphs])
        batch = torch.repeat_interleave(torch.arange(len(graphs)), torch.tensor(sizes))
    node_attrs = torch.zeros((len(element_idx), n_elements), dtype=dtype)
    node_attrs.scatter_(1, element_idx.unsqueeze(1), 1.0)
    tensors = {
        "positions": positions,
        "cell": cell,
        "node_attrs": node_attrs,
        "edge_index": edge_index,
        "unit_shifts": unit_shifts,
        "shifts": shifts,
        "batch": batch,
        "ptr": ptr,
        "head": torch.tensor(list(head_idx), dtype=torch.int64),
    }
    if torch.device(device).type == "cpu":
        return tensors
    return {name: tensor.to(device) for name, tensor in tensors.items()}
