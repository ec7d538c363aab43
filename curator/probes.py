"""Probes: how a model behaves outside the frames it was trained on, measured after every fit.

The force error on test frames says nothing of short distances, of other densities, or of what a foundation knew and
its fine-tuned model has forgotten; strategies that agree on the first differ widely in the rest (arXiv:2606.12704).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np

from curator.backends.executor import Task
from curator.context import Context, run_tasks, values_of
from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.learners.dimers import Dimer
from curator.learners.equivariance import Equivariance
from curator.learners.mace import MaceModel
from curator.learners.probes import PairsAndSymmetry, pairs_and_symmetry
from curator.md import run_md
from curator.random_search import HoleRate, hole_rate, random_structures
from curator.state import Json, Stage, read_json, write_json
from curator.survival import Survival, survival
from curator.tasks import find_holes, probe_pairs_and_symmetry, run_trajectory
from curator.trajectory import MDSettings, Trajectory

MAX_STEPS = 50
HOT = 1.5
"""Temperature of a campaign's hot dynamics over the hottest that it explores at."""
N_SYMMETRY_FRAMES = 2
RATTLE_A = 0.1


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """How much is probed; the defaults cost some 20 CPU seconds of a small model and 65 atoms.

    Attributes
    ----------
    n_structures
        Random structures, the same at every pressure and for every model.
    pressures_GPa
        Pressures in GPa that they are relaxed under.
    max_steps
        Most steps of a relaxation.
    temperature_K
        Temperature of the hot dynamics in K.
    duration_ps, timestep_fs
        Length of a hot trajectory in ps, its time step in fs.
    n_trajectories
        Hot trajectories.
    seed
        Seeds of everything random, in the sense of ``numpy.random.SeedSequence``.
    """

    n_structures: int = 5
    pressures_GPa: tuple[float, ...] = (0.1, 50.0)
    max_steps: int = MAX_STEPS
    temperature_K: float = 1500.0
    duration_ps: float = 0.5
    timestep_fs: float = 2.0
    n_trajectories: int = 1
    seed: tuple[int, ...] = (0,)

    @property
    def md(self) -> MDSettings:
        """How the hot trajectories are run."""
        return MDSettings(self.temperature_K, self.duration_ps, timestep_fs=self.timestep_fs)


@dataclass(frozen=True, slots=True, eq=False)
class Probes:
    """What the probes of one model found.

    Attributes
    ----------
    dimers
        Every pair of the elements that were asked about.
    searches
        Hole rate at each pressure; empty for a structure that is not periodic.
    survival
        Of the hot dynamics.
    equivariance
        Deviations from exact symmetry, in double precision.
    cpu_s
        CPU seconds that all of it took.
    """

    dimers: tuple[Dimer, ...]
    searches: tuple[HoleRate, ...]
    survival: Survival
    equivariance: Equivariance
    cpu_s: float


def probe(
    model: MaceModel,
    structure: Frame,
    settings: ProbeSettings,
    *,
    elements: Iterable[int] | None = None,
    on_part: Callable[[str, float], None] | None = None,
) -> Probes:
    """Probe a model in this process.

    Parameters
    ----------
    structure
        Where the hot dynamics begins, and whose composition and density the random structures have.
    elements
        Elements of the dimers; those of the structure by default.
    on_part
        Called with the name of each part, and the share of all parts that is done before it.

    Raises
    ------
    ValueError
        If the model does not know an element, or no random structure can be made.
    """
    calculator = model.calculator()
    starts, asymmetric = probe_structures(structure, settings)
    pressures_GPa = settings.pressures_GPa if starts else ()
    n_done, n_parts = 0, 1 + len(pressures_GPa) + settings.n_trajectories

    def begin(name: str) -> None:
        nonlocal n_done
        if on_part is not None:
            on_part(name, n_done / n_parts)
        n_done += 1

    begin("dimers and symmetry")
    chosen = structure.numbers.tolist() if elements is None else elements
    static = pairs_and_symmetry(model, chosen, asymmetric, np.random.default_rng((*settings.seed, 1)))
    searches = []
    for pressure_GPa in pressures_GPa:
        begin(f"random structures at {pressure_GPa:g} GPa")
        searches.append(hole_rate(calculator, starts, pressure_GPa, like=structure, max_steps=settings.max_steps))
    trajectories = []
    for k in range(settings.n_trajectories):
        begin(f"MD at {settings.temperature_K:g} K")
        trajectories.append(run_md(structure, calculator, settings.md, seed=(*settings.seed, 2, k)))
    return _put_together(static, searches, trajectories)


def probe_structures(structure: Frame, settings: ProbeSettings) -> tuple[list[Frame], list[Frame]]:
    """Random structures, none if the structure is not periodic in three dimensions; and frames without symmetry."""
    rng = np.random.default_rng((*settings.seed, 0))
    if structure.pbc.all():
        starts = random_structures(structure, settings.n_structures, rng)
        return starts, starts[:N_SYMMETRY_FRAMES]
    atoms = atoms_from_frame(structure)
    atoms.positions += rng.normal(scale=RATTLE_A, size=atoms.positions.shape)
    return [], [frame_from_atoms(atoms)]


def probe_round(context: Context, round_: int, structure: Frame) -> Json | None:
    """Probe the first member of a round, or the foundation before round 0, by tasks; None if no probes are wanted.

    Structures and seeds are those of every other round: what differs is the model.
    """
    settings = _campaign_settings(context)
    if settings is None:
        return None
    folder = (context.folder.setup if round_ < 0 else context.folder.round(round_)) / "probes"
    out = folder / "probes.json"
    if out.exists():
        return read_json(out)
    model = context.members(round_)[0]
    starts, asymmetric = probe_structures(structure, settings)
    pressures_GPa = settings.pressures_GPa if starts else ()
    md = [folder / f"md-{k}" for k in range(settings.n_trajectories)]
    elements = sorted(set(structure.numbers.tolist()))
    tasks = [
        *(
            Task(run_trajectory, (model, structure, settings.md, (*settings.seed, 2, k), where), f"hot MD {k}")
            for k, where in enumerate(md)
        ),
        *(
            Task(
                find_holes, (model, starts, pressure_GPa, structure, settings.max_steps), f"holes {pressure_GPa:g} GPa"
            )
            for pressure_GPa in pressures_GPa
        ),
        Task(probe_pairs_and_symmetry, (model, elements, asymmetric, (*settings.seed, 1)), "dimers and symmetry"),
    ]
    outcomes = run_tasks(context, "md", tasks, round_=round_, stage="probe the model")
    *values, static = values_of(outcomes, "probing the model")
    trajectories, searches = values[: len(md)], values[len(md) :]
    found = _put_together(
        cast(PairsAndSymmetry, static), cast(list[HoleRate], searches), cast(list[Trajectory], trajectories)
    )
    write_json(out, probes_json(found))
    return read_json(out)


def probes_json(probes: Probes) -> Json:
    """Probes as JSON values."""
    survived, symmetry = probes.survival, probes.equivariance
    return {
        "dimers": [
            {
                "pair": dimer.name,
                "turnover_A": dimer.turnover_A,
                "depth_eV": dimer.depth_eV,
                "wall_eV": dimer.wall_eV,
            }
            for dimer in probes.dimers
        ],
        "random_search": [
            {
                "pressure_GPa": search.pressure_GPa,
                "n_runs": search.n_runs,
                "n_holes": search.n_holes,
                "rate": search.n_holes / search.n_runs,
                "ci95": list(search.ci95),
                "holes": [hole or None for hole in search.holes],
            }
            for search in probes.searches
        ],
        "hot_md": {
            "temperature_K": survived.temperature_K,
            "duration_ps": survived.duration_ps,
            "n_runs": survived.n_runs,
            "n_survived": survived.n_survived,
            "ci95": list(survived.ci95),
            "reasons": [reason or None for reason in survived.reasons],
        },
        "equivariance": asdict(symmetry) | {"worst_force_eV_per_A": symmetry.worst_force_eV_per_A},
        "cpu_s": probes.cpu_s,
    }


def _campaign_settings(context: Context) -> ProbeSettings | None:
    file = context.plan.file
    wanted = file.measure.probes
    if wanted is None:
        return None
    return ProbeSettings(
        n_structures=wanted.structures,
        pressures_GPa=wanted.pressures_GPa,
        temperature_K=wanted.temperature_K or HOT * max(file.explore.temperatures_K),
        duration_ps=wanted.duration_ps,
        timestep_fs=file.explore.timestep_fs,
        n_trajectories=wanted.trajectories,
        seed=context.plan.seed_of(-1, Stage.PROBE),
    )


def _put_together(static: PairsAndSymmetry, searches: Sequence[HoleRate], trajectories: Sequence[Trajectory]) -> Probes:
    cpu_s = static.cpu_s + sum(part.cpu_s for part in searches) + sum(run.cpu_s for run in trajectories)
    return Probes(static.dimers, tuple(searches), survival(trajectories), static.equivariance, cpu_s)
