"""A training step with mace's own convolution and with the batched one, for the shipped model on LiF.

Run it as ``python tests/benchmarks/bench_convolution.py``. A step is energy, forces and the gradient of a loss of both,
for two frames with an interstitial.
"""

from statistics import median
from time import process_time

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from mace.modules import ScaleShiftMACE

from curator.datasets.frame import frame_from_atoms
from curator.learners.architecture import build_module
from curator.learners.convolution import accelerate
from curator.learners.foundation import MINI_HALIDES, load_foundation
from curator.learners.graphs import collate, frame_graph

BATCH_SIZE, N_STEPS = 2, 15


def main() -> None:
    """Print CPU seconds per step, the median of several, and their ratio."""
    torch.set_num_threads(1)
    atoms = bulk("LiF", "rocksalt", a=4.03, cubic=True) * (2, 2, 2) + Atoms("Li", [[4.03 / 4] * 3])
    atoms.positions += np.random.default_rng(0).normal(scale=0.05, size=atoms.positions.shape)
    architecture = load_foundation(MINI_HALIDES).architecture
    elements = architecture.atomic_numbers
    graph = frame_graph(frame_from_atoms(atoms), elements=elements, r_max=architecture.r_max)
    plain, fast = build_module(architecture), build_module(architecture)
    accelerate(fast)
    seconds: dict[str, list[float]] = {"mace": [], "batched": []}
    for _ in range(N_STEPS):
        # In turn, so that another load on the machine falls on both.
        for name, module in (("mace", plain), ("batched", fast)):
            batch = collate([graph] * BATCH_SIZE, [0] * BATCH_SIZE, n_elements=len(elements), dtype=torch.float32)
            started = process_time()
            _step(module, batch)
            seconds[name].append(process_time() - started)
    per_step = {name: median(times) for name, times in seconds.items()}
    print(f"{BATCH_SIZE} frames of {len(atoms)} atoms, {len(graph.edge_index[0])} edges each")
    for name, time_s in per_step.items():
        print(f"{name:8} {1e3 * time_s:6.0f} ms a step")
    print(f"{'ratio':8} {per_step['mace'] / per_step['batched']:6.2f}")


def _step(module: ScaleShiftMACE, batch: dict[str, torch.Tensor]) -> None:
    out = module(batch, training=True)
    (out["energy"].sum() + out["forces"].square().sum()).backward()
    module.zero_grad()


if __name__ == "__main__":
    main()
