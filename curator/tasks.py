"""What runs in workers: plain functions of plain values, one for each kind of task.

Heavy imports stay inside the functions, so that the driver can name a task without loading torch.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase.calculators.calculator import Calculator
from ase.filters import FrechetCellFilter
from ase.io import iread
from ase.optimize import LBFGS
from numpy.typing import NDArray

from curator.backends.base import LabellerSpec
from curator.barriers.barrier import Barrier, find_barrier
from curator.datasets.frame import Frame, atoms_from_frame, frame_from_atoms
from curator.datasets.label import Record
from curator.datasets.sources import Hop
from curator.learners.base import Prediction, TrainEvent, Want
from curator.learners.strategies import E0Choice, Strategy
from curator.md import run_md
from curator.progress import tell
from curator.random_search import HoleRate, hole_rate
from curator.selection import frame_descriptor
from curator.state import Json, read_json, write_json
from curator.trajectory import MDSettings, Trajectory

if TYPE_CHECKING:
    from curator.learners.last_layer import LastLayer
    from curator.learners.mace import MaceModel
    from curator.learners.probes import PairsAndSymmetry

CELL_FMAX_EV_PER_A = 0.01
CELL_MAX_STEPS = 100
N_DIRECTIONS = 16
"""Directions in which the last layer may move; docs/uncertainty.md says what fewer and more are worth."""


@dataclass(frozen=True, slots=True)
class ModelAt:
    """A model in a folder.

    Attributes
    ----------
    folder
        Where it was saved.
    device
        ``cpu``, ``cuda``, or ``auto`` for the best there is.
    head
        Head that predicts, where the model has it; its own choice if None.
    """

    folder: Path
    device: str = "auto"
    head: str | None = None

    def load(self) -> "MaceModel":
        """Load the model."""
        from curator.learners.mace import load_model

        model = load_model(self.folder, device=self.device)
        return model.with_head(self.head) if self.head in model.heads else model


@dataclass(frozen=True, slots=True)
class RelaxedCell:
    """A structure whose lattice and positions were relaxed.

    Attributes
    ----------
    frame
        The relaxed structure.
    n_calls
        Energy and force calls it took.
    cpu_s
        CPU seconds it took.
    converged
        Whether the forces and the stress fell below the threshold.
    """

    frame: Frame
    n_calls: int
    cpu_s: float
    converged: bool


def _calculator(source: LabellerSpec | ModelAt) -> Calculator:
    if isinstance(source, ModelAt):
        return source.load().calculator()
    from curator.backends.labellers import labeller_calculator

    return labeller_calculator(source)


def relax_cell(source: LabellerSpec | ModelAt, frame: Frame, isotropic: bool) -> RelaxedCell:
    """Relax lattice and positions with a labeller or a model.

    Parameters
    ----------
    isotropic
        Whether the lattice keeps its shape.
    """
    began = time.process_time()
    atoms = atoms_from_frame(frame)
    atoms.calc = _calculator(source)
    optimiser = LBFGS(FrechetCellFilter(atoms, hydrostatic_strain=isotropic), logfile=None)
    converged = optimiser.run(fmax=CELL_FMAX_EV_PER_A, steps=CELL_MAX_STEPS)
    relaxed = frame_from_atoms(atoms, frame.charge, frame.multiplicity)
    return RelaxedCell(relaxed, optimiser.get_number_of_steps() + 1, time.process_time() - began, bool(converged))


def run_trajectory(model: ModelAt, start: Frame, settings: MDSettings, seed: Sequence[int], folder: Path) -> Trajectory:
    """Molecular dynamics with a model; chunks already in ``folder`` are continued."""
    progress = folder / "progress.json"
    loaded = model.load()
    return run_md(
        start,
        loaded.calculator(),
        settings,
        seed=seed,
        folder=folder,
        model=loaded.hash,
        on_progress=lambda done, total: tell(progress, done, total),
    )


@dataclass(frozen=True, slots=True, eq=False)
class CandidatePrediction:
    """What selection needs to know of a candidate.

    Attributes
    ----------
    forces
        float64, shape ``(n_atoms, 3)``, eV/Å.
    descriptor
        Descriptor of the whole frame, shape ``(n_descriptor,)``.
    node_features
        float32, shape ``(n_atoms, n_features)``.
    spread
        Spread of the last layer at each atom, shape ``(n_atoms,)``, or None if none was asked for.
    """

    forces: NDArray[np.float64]
    descriptor: NDArray[np.float64]
    node_features: NDArray[np.float32]
    spread: NDArray[np.float64] | None


def predict_candidates(
    model: ModelAt,
    file: Path,
    start: int,
    stop: int,
    elements: Sequence[int],
    last_layer: "LastLayer | None" = None,
) -> list[CandidatePrediction]:
    """Forces and descriptors of frames ``start`` to ``stop`` of a file by a model; spreads too, with its last layer."""
    from curator.learners.last_layer import last_layer_spread

    frames = [frame_from_atoms(atoms) for atoms in iread(file, index=slice(start, stop), format="extxyz")]
    loaded = model.load()
    predictions = loaded.predict(frames, ("energy", "forces", "node_features"))
    spreads = [None] * len(frames) if last_layer is None else last_layer_spread(loaded, last_layer, frames)
    found = []
    for frame, prediction, spread in zip(frames, predictions, spreads, strict=True):
        assert prediction.forces is not None
        assert prediction.node_features is not None
        descriptor = frame_descriptor(prediction.node_features, frame.numbers, elements)
        found.append(CandidatePrediction(prediction.forces, descriptor, prediction.node_features, spread))
    return found


def last_layer_of(model: ModelAt, file: Path, seed: Sequence[int]) -> "LastLayer":
    """Find how the last layer of a model may move, from the labelled frames in a file that it was trained on."""
    from curator.learners.last_layer import fit_last_layer

    frames = [record.frame for record in _records(file)]
    return fit_last_layer(model.load(), frames, np.random.default_rng(seed), n_directions=N_DIRECTIONS)


def last_layer_spread_of(model: ModelAt, last_layer: "LastLayer", frames: Sequence[Frame]) -> list[NDArray[np.float64]]:
    """Spread of a model's last layer at each atom of each frame."""
    from curator.learners.last_layer import last_layer_spread

    return last_layer_spread(model.load(), last_layer, frames)


def predict_frames(model: ModelAt, frames: Sequence[Frame], want: Sequence[Want]) -> list[Prediction]:
    """Predictions of a model."""
    return model.load().predict(frames, want)


def probe_pairs_and_symmetry(
    model: ModelAt, elements: Sequence[int], frames: Sequence[Frame], seed: Sequence[int]
) -> "PairsAndSymmetry":
    """Dimers and equivariance of a model."""
    from curator.learners.probes import pairs_and_symmetry

    return pairs_and_symmetry(model.load(), elements, frames, np.random.default_rng(seed))


def find_holes(model: ModelAt, starts: Sequence[Frame], pressure_GPa: float, like: Frame, max_steps: int) -> HoleRate:
    """Hole rate of a model at one pressure."""
    return hole_rate(model.load().calculator(), starts, pressure_GPa, like=like, max_steps=max_steps)


def barrier_of(source: LabellerSpec | ModelAt, hop: Hop) -> Barrier:
    """Migration barrier of a hop in a model or a labeller."""
    return find_barrier(hop, _calculator(source))


@dataclass(frozen=True, slots=True)
class TrainedMember:
    """What is told of the training of one committee member.

    Attributes
    ----------
    epochs, best_epoch
        Epochs run, and the one whose weights were kept.
    valid_force_rmse
        Force RMSE in eV/Å on the validation frames, by head.
    curve
        ``(epoch, target, replay)`` of each epoch; NaN where there is no replay.
    e0
        Energies of isolated atoms in eV by atomic number, and what is to be said of them.
    cpu_s
        CPU seconds it took.
    """

    epochs: int
    best_epoch: int
    valid_force_rmse: dict[str, float]
    curve: tuple[tuple[int, float, float], ...]
    e0: dict[int, float]
    e0_message: str | None
    cpu_s: float


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """Everything one member is trained from.

    Attributes
    ----------
    base
        Model to start from; a strategy that starts from scratch takes only its architecture.
    train, valid
        extxyz files with labels; there may be none to validate with.
    replay_train, replay_valid
        extxyz files of replayed frames, or None; pseudolabels were given when the campaign began.
    bootstrap
        Whether the training frames are drawn with replacement.
    seed
        Seed of the member.
    out
        Folder of the trained model.
    """

    base: ModelAt
    train: Path
    valid: Path | None
    replay_train: Path | None
    replay_valid: Path | None
    strategy: Strategy
    e0: E0Choice
    bootstrap: bool
    seed: int
    out: Path


def train_member(job: TrainingJob) -> TrainedMember:
    """Train one member of the committee; one that was trained by this very job is read, and a checkpoint continued.

    If the loss becomes infinite, the weights kept so far are saved beside ``out``, in a folder that ends in
    ``-diverged``, before the error is raised.
    """
    from curator.learners.committee import bootstrap
    from curator.learners.loop import TrainingDiverged
    from curator.learners.train import fit, run_key

    train, valid, replay_train, replay_valid = (
        _records(path) for path in (job.train, job.valid, job.replay_train, job.replay_valid)
    )
    if job.bootstrap:
        train = bootstrap(train, job.seed)
    loaded = job.base.load()
    base, architecture = (loaded, None) if job.strategy.from_foundation else (None, loaded.architecture)
    run = run_key(base, architecture, [train, valid, replay_train, replay_valid], job.strategy, job.seed, job.e0)
    done = job.out / "trained.json"
    if done.exists():
        content = read_json(done)
        if content.pop("run", None) == run:
            return member_from_json(content)
        done.unlink()
    progress = job.out.parent / f"{job.out.name}-progress.json"
    curve: list[tuple[int, float, float]] = []

    def on_event(event: TrainEvent) -> None:
        errors = event.valid_force_rmse
        text = f"valid {1000 * errors.get('target', np.nan):.0f} meV/Å"
        tell(progress, event.epoch, event.n_epochs, text)

    checkpoint = job.out.parent / f"{job.out.name}-checkpoint"
    try:
        model, report = fit(
            base,
            train,
            valid,
            job.strategy,
            seed=job.seed,
            replay_train=replay_train,
            replay_valid=replay_valid,
            e0=job.e0,
            checkpoint=checkpoint,
            on_event=on_event,
            architecture=architecture,
            device=str(loaded.device),
        )
    except TrainingDiverged as error:
        if error.model is not None:
            error.model.save(job.out.with_name(f"{job.out.name}-diverged"))
        raise
    for event in report.curve:
        errors = event.valid_force_rmse
        curve.append((event.epoch, errors.get("target", np.nan), errors.get("replay", np.nan)))
    model.save(job.out)
    member = TrainedMember(
        epochs=report.epochs,
        best_epoch=report.best_epoch,
        valid_force_rmse=dict(report.valid_force_rmse),
        curve=tuple(curve),
        e0=dict(report.e0.values),
        e0_message=report.e0.message,
        cpu_s=report.cpu_s,
    )
    write_json(done, {"run": run, **asdict(member)})
    checkpoint.unlink(missing_ok=True)
    return member


def member_from_json(content: Json) -> TrainedMember:
    """The inverse of ``dataclasses.asdict`` after a journey through JSON."""
    curve = tuple(
        (int(epoch), *(np.nan if e is None else float(e) for e in errors)) for epoch, *errors in content["curve"]
    )
    e0 = {int(number): value for number, value in content["e0"].items()}
    return TrainedMember(**{**content, "curve": curve, "e0": e0})


def _records(path: Path | None) -> list[Record]:
    from curator.datasets.extxyz import read_own_records

    return [] if path is None else read_own_records(path)
