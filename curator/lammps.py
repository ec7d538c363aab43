"""The measurement of a campaign as an input of LAMMPS: larger cells and longer times than an ASE loop affords."""

from collections.abc import Sequence
from pathlib import Path

from ase.data import chemical_symbols
from ase.io import write
from jinja2 import Environment, PackageLoader, StrictUndefined

from curator.datasets.atomic import atomic_path, write_atomically
from curator.datasets.frame import Frame, atoms_from_frame
from curator.trajectory import MDSettings

INPUT, DATA, POTENTIAL, MODEL = "in.diffusion", "start.data", "potential.mace", "model-lammps.pt"


def write_lammps_input(
    folder: Path,
    start: Frame,
    runs: Sequence[MDSettings],
    *,
    mobile: str,
    replicas: int = 1,
    equilibration_ps: float = 2.0,
    n_carriers: int | None = 1,
    hop_length_A: float | None = None,
    seed: int = 0,
) -> list[Path]:
    """Write ``in.diffusion``, ``start.data`` and ``potential.mace``, which runs the model in ``model-lammps.pt``.

    The dynamics is that of :func:`curator.md.run_md`: Langevin with the same friction, the centre of mass free, the
    same time step and frame interval, velocities that begin at twice the temperature. LAMMPS integrates it by velocity
    Verlet with the force of T. Schneider and E. Stoll, Phys. Rev. B 17, 1302 (1978), which at this weak a friction
    samples what BAOAB does. Frames hold unwrapped positions, as ``curator diffusion`` reads them.

    Parameters
    ----------
    folder
        Where the files go.
    start
        A minimum to start from; LAMMPS repeats it by its variables ``nx``, ``ny`` and ``nz``.
    runs
        One per temperature; nothing else may differ.
    mobile
        Symbol of the mobile species.
    replicas
        Independent trajectories per temperature.
    equilibration_ps, n_carriers, hop_length_A
        As for :func:`curator.diffusion.measurement.measure_diffusion`; they enter the command that the input names, no
        more.
    seed
        Seeds of velocities and thermostat follow from it, the temperature and the replica.

    Returns
    -------
    list
        Files written.

    Raises
    ------
    ValueError
        If there is no run, runs differ in more than the temperature, the dynamics is not thermostatted, or atoms are
        held.
    """
    if not runs or len({(r.timestep_fs, r.duration_ps, r.friction_per_ps, r.frame_interval_fs) for r in runs}) != 1:
        raise ValueError("give one run per temperature, alike in all else")
    first = runs[0]
    if not first.friction_per_ps > 0 or first.held:
        raise ValueError("the input is for Langevin dynamics of all atoms: friction_per_ps positive, none held")
    elements = [chemical_symbols[number] for number in sorted({int(number) for number in start.numbers})]
    environment = Environment(
        loader=PackageLoader("curator"), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    text = environment.get_template(f"{INPUT}.j2").render(
        title=f"Diffusion of {mobile} in {atoms_from_frame(start).get_chemical_formula()}, as curator measures it.",
        temperatures_K=[f"{run.temperature_K:g}" for run in runs],
        duration_ps=f"{first.n_steps * first.timestep_fs / 1000:g}",
        timestep_ps=f"{first.timestep_fs / 1000:g}",
        damping_ps=f"{1 / first.friction_per_ps:g}",
        steps_per_frame=first.steps_per_frame,
        frame_interval_fs=f"{first.stored_interval_fs:g}",
        equilibration_ps=f"{equilibration_ps:g}",
        n_carriers=n_carriers,
        hop_length_A=None if hop_length_A is None else f"{hop_length_A:.4f}",
        mobile=mobile,
        elements=elements,
        replicas=replicas,
        boundary=" ".join("p" if periodic else "f" for periodic in start.pbc),
        seed=seed + 1,  # LAMMPS wants seeds above zero
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / INPUT, text)
    with atomic_path(folder / DATA) as aside:
        write(aside, atoms_from_frame(start), format="lammps-data", specorder=elements, masses=True)
    potential = f"pair_style mace no_domain_decomposition\npair_coeff * * {MODEL} {' '.join(elements)}\n"
    write_atomically(folder / POTENTIAL, potential)
    return [folder / name for name in (INPUT, DATA, POTENTIAL)]
