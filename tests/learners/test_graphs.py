import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list

from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.learners.graphs import collate, element_indices, frame_graph

from .conftest import lif

ELEMENTS = (3, 9, 11)


@pytest.mark.parametrize(
    "atoms",
    [
        lif(1),
        Atoms("LiF", [[0, 0, 0], [1.6, 0, 0]]),
        Atoms("LiFLi", [[0, 0, 0], [0, 2, 0.5], [9.5, 0, 0]], cell=[10, 12, 14], pbc=[True, False, True]),
        Atoms("LiF", [[-7.0, 3.0, 25.0], [1.6, 0, 0]], cell=[[3, 0, 0], [1, 3, 0], [0.5, 1, 3]], pbc=True),
    ],
    ids=["crystal", "molecule", "slab", "skewed cell, atoms outside"],
)
def test_pairs_are_those_of_ase(atoms: Atoms) -> None:
    frame = frame_from_atoms(atoms)
    graph = frame_graph(frame, elements=ELEMENTS, r_max=4.0)
    batch = collate([graph], [0], n_elements=3, dtype=torch.float64)
    sender, receiver = graph.edge_index
    vectors = batch["positions"][receiver] - batch["positions"][sender] + batch["shifts"]
    found = sorted(zip(sender.tolist(), receiver.tolist(), map(tuple, np.round(vectors.numpy(), 6)), strict=True))
    i, j, d = neighbor_list("ijD", atoms_from_frame(frame), 4.0)
    expected = sorted(zip(i.tolist(), j.tolist(), map(tuple, np.round(d + 0.0, 6)), strict=True))
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one[:2] == other[:2]
        np.testing.assert_allclose(one[2], other[2], atol=2e-6)
    assert (np.diff(receiver.numpy()) >= 0).all()
    assert graph.periodic == bool(atoms.pbc.all())


def test_collated_graphs_stay_apart(frames: list[Frame]) -> None:
    graphs = [frame_graph(frame, elements=ELEMENTS, r_max=3.5) for frame in frames]
    batch = collate(graphs, [0, 1, 0], n_elements=3, dtype=torch.float32)
    sizes = [len(frame) for frame in frames]
    assert batch["ptr"].tolist() == [0, *np.cumsum(sizes).tolist()]
    sender, receiver = batch["edge_index"]
    assert torch.equal(batch["batch"][sender], batch["batch"][receiver])
    assert (np.diff(receiver.numpy()) >= 0).all()
    assert batch["head"].tolist() == [0, 1, 0]
    numbers = np.concatenate([frame.numbers for frame in frames])
    assert [ELEMENTS[i] for i in batch["node_attrs"].argmax(1)] == numbers.tolist()
    single = collate(graphs[1:2], [1], n_elements=3, dtype=torch.float32)
    part = slice(sizes[0], sizes[0] + sizes[1])
    for name in ("positions", "node_attrs"):
        assert torch.equal(batch[name][part], single[name])
    inside = (batch["batch"][sender] == 1).nonzero().flatten()
    assert torch.equal(batch["shifts"][inside], single["shifts"])


def test_batch_is_a_copy(frames: list[Frame]) -> None:
    graph = frame_graph(frames[0], elements=ELEMENTS, r_max=3.5)
    before = graph.positions.clone()
    for dtype in (torch.float32, torch.float64):
        collate([graph], [0], n_elements=3, dtype=dtype)["positions"] += 1.0
    assert torch.equal(graph.positions, before)


def test_element_outside_the_table() -> None:
    assert element_indices(np.array([11, 3, 9, 3], dtype=np.int32), ELEMENTS).tolist() == [2, 0, 1, 0]
    with pytest.raises(ValueError, match="does not know H, Cl"):
        element_indices(np.array([1, 3, 17], dtype=np.int32), ELEMENTS)
