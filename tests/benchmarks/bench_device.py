"""From how many atoms on a GPU is worth it: energy and forces of rattled LiF, on a CPU core and on the GPU.

``python tests/benchmarks/bench_device.py [MODEL]``, of ``mini-halides`` by default.
"""

import sys
import time

import numpy as np
import torch
from ase.build import bulk

from curator.datasets.frame import frame_from_atoms
from curator.learners.foundation import load_foundation

N_REPEATS = 20

if __name__ == "__main__":
    torch.set_num_threads(1)
    reference = sys.argv[1] if len(sys.argv) > 1 else "mini-halides"
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    print("| atoms | device | ms | largest difference of a force from the CPU's, eV/Å |\n| ---: | --- | ---: | ---: |")
    for n_cells in (2, 3, 5):
        atoms = bulk("LiF", "rocksalt", 4.03, cubic=True) * (n_cells, n_cells, n_cells)
        atoms.rattle(0.05, seed=1)
        frame = frame_from_atoms(atoms)
        forces = {}
        for device in devices:
            model = load_foundation(reference, device=device)
            forces[device] = model.predict([frame])[0].forces
            began = time.perf_counter()
            for _ in range(N_REPEATS):
                model.predict([frame])
            ms = 1000 * (time.perf_counter() - began) / N_REPEATS
            difference = np.abs(forces[device] - forces["cpu"]).max()
            print(f"| {len(atoms)} | {device} | {ms:.1f} | {difference:.1e} |", flush=True)
