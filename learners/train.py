"""Training and fine-tuning of MACE models: one thin loop on mace's own modules."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from curator.datasets.label import Record
from curator.learners.architecture import Architecture, Head, build_module, with_heads
from curator.learners.base import TrainEvent
from curator.learners.convolution import accelerate
from curator.learners.e0 import E0Estimate, estimate_e0s, fit_e0s, is_isolated_atom
from curator.learners.graphs import Graph
from curator.learners.loop import TrainingRun
from curator.learners.mace import REPLAY, TARGET, MaceModel
from curator.learners.samples import make_samples
from curator.learners.strategies import Strategy

E0Choice = Literal["estimated", "foundation"] | Mapping[int, float]


@dataclass(frozen=True, slots=True)
class FitReport:
    """What a training run did and what it cost.

    Attributes
    ----------
    epochs
        Epochs done.
    best_epoch
        Epoch, counted from 1, whose weights were returned; 0 if the start was never improved upon.
    valid_force_rmse, valid_energy_rmse
        Of the returned weights on validation frames, by head: eV/Å, and eV/atom; empty without validation frames.
    start_force_rmse, start_energy_rmse
        The same before training, with the E0s in place.
    curve
        One event per epoch.
    e0
        E0s of the target head.
    n_parameters, n_trainable
        Numbers of the model and of those that could change.
    cpu_s
        CPU seconds, those before a restart included.
    """

    epochs: int
    best_epoch: int
    valid_force_rmse: Mapping[str, float]
    valid_energy_rmse: Mapping[str, float]
    start_force_rmse: Mapping[str, float]
    start_energy_rmse: Mapping[str, float]
    curve: tuple[TrainEvent, ...]
    e0: E0Estimate
    n_parameters: int
    n_trainable: int
    cpu_s: float


def fit(
    base: MaceModel | None,
    train: Sequence[Record],
    valid: Sequence[Record],
    strategy: Strategy,
    *,
    seed: int,
    replay_train: Sequence[Record] = (),
    replay_valid: Sequence[Record] = (),
    e0: E0Choice = "estimated",
    checkpoint: Path | None = None,
    checkpoint_interval_s: float = 30.0,
    on_event: Callable[[TrainEvent], None] | None = None,
    architecture: Architecture | None = None,
    device: str = "cpu",
) -> tuple[MaceModel, FitReport]:
    """Train a model on labelled frames.

    The weights that come back are the moving average at the epoch with the lowest force error on the target's
    validation frames, or at the last epoch where there are none. The same seed, data and settings give the same
    weights, bit for bit, also when the run was killed and continued from its checkpoint (with one thread).

    Parameters
    ----------
    base
        Model to start from, which is not changed; None trains from scratch.
    train, valid
        Frames of the target. Isolated atoms in ``train`` fix E0s and are not trained on. May have no ``valid``.
    strategy
        Row of the table of strategies.
    seed
        Of the order of the frames, and of the weights if there is no base.
    replay_train, replay_valid
        Frames of the foundation's own training set, for a strategy with replay; the others leave them alone.
    e0
        ``estimated``: the base's E0s, shifted to fit the labels (from scratch: least squares on the labels);
        ``foundation``: as they are; or values in eV by atomic number, the rest estimated.
    checkpoint
        File that holds the state of the run, written at the end of an epoch when ``checkpoint_interval_s`` seconds
        have passed, and at the last. A run finds it and goes on; one of other data or settings is ignored. It stays
        when the run is over.
    on_event
        Called after each epoch.
    architecture
        Of a model trained from scratch; by default the small one with short-range repulsion, for the elements of
        the training frames. Heads, E0s, scale and mean coordination are set from the data.
    device
        Of a model trained from scratch; one that has a base stays where the base is.

    Raises
    ------
    ValueError
        If there are no training frames, the strategy does not go with what is given, or an element is unknown.
    TrainingDiverged
        If the loss becomes infinite or not a number.
    """
    start_cpu_s = time.process_time()
    _check(base, train, strategy, replay_train)
    if base is None and architecture is None:
        architecture = Architecture(_elements(train), pair_repulsion=True)
    key = _run_key(base, architecture, [train, valid, replay_train, replay_valid], strategy, seed, e0)
    module, architecture, e0_estimate = _prepare(base, train, strategy, seed, e0, architecture)
    accelerate(module)
    module.to(device if base is None else base.device)

    graphs: dict[str, Graph] = {}
    target = architecture.head_names.index(TARGET)
    trained_on = [record for record in train if not is_isolated_atom(record)]
    samples = make_samples(trained_on, architecture, target, graphs, differences=strategy.difference > 0)
    valid_samples = {TARGET: make_samples(valid, architecture, target, graphs)}
    if strategy.replay != "none":
        replay = architecture.head_names.index(REPLAY)
        samples += make_samples(replay_train, architecture, replay, graphs)
        valid_samples[REPLAY] = make_samples(replay_valid, architecture, replay, graphs)

    run = TrainingRun(module, samples, {name: part for name, part in valid_samples.items() if part}, strategy, seed)
    if checkpoint is not None:
        run.restore(checkpoint, key)
    spent_s = run.cpu_s
    last_saved = time.monotonic()
    while not run.finished:
        event = run.epoch()
        run.cpu_s = spent_s + time.process_time() - start_cpu_s
        if checkpoint is not None and (run.finished or time.monotonic() - last_saved >= checkpoint_interval_s):
            run.save(checkpoint, key)
            last_saved = time.monotonic()
        if on_event is not None:
            on_event(event)
    module.load_state_dict(run.best_state)
    trainable = sum(p.numel() for p in run.parameters)
    metadata = {
        "base": None if base is None else base.hash,
        "strategy": dataclasses.asdict(strategy),
        "run": key,
        "seed": seed,
        "n_train": len(trained_on),
        "n_replay": len(samples) - len(trained_on),
        "versions": {name: version(name) for name in ("mace-torch", "torch", "e3nn")},
    }
    report = FitReport(
        epochs=len(run.curve),
        best_epoch=run.best_epoch,
        valid_force_rmse=run.best_errors[0],
        valid_energy_rmse=run.best_errors[1],
        start_force_rmse=run.start_errors[0],
        start_energy_rmse=run.start_errors[1],
        curve=tuple(run.curve),
        e0=e0_estimate,
        n_parameters=sum(p.numel() for p in module.parameters()),
        n_trainable=trainable,
        cpu_s=spent_s + time.process_time() - start_cpu_s,
    )
    return MaceModel(architecture, module, metadata), report


def _elements(records: Sequence[Record]) -> tuple[int, ...]:
    return tuple(sorted({int(z) for record in records for z in record.frame.numbers}))


def _check(base: MaceModel | None, train: Sequence[Record], strategy: Strategy, replay_train: Sequence[Record]) -> None:
    if all(is_isolated_atom(record) for record in train):
        raise ValueError("no frames to train on (isolated atoms only set E0s)")
    if base is None and strategy.from_foundation:
        raise ValueError(f"strategy {strategy.name!r} needs a foundation model to start from; 'scratch' needs none")
    if base is not None and not strategy.from_foundation:
        raise ValueError(f"strategy {strategy.name!r} starts from random weights; it takes no foundation model")
    if strategy.replay != "none" and not replay_train:
        raise ValueError(f"strategy {strategy.name!r} needs replay frames; give some, or use 'naive'")


def _prepare(
    base: MaceModel | None,
    train: Sequence[Record],
    strategy: Strategy,
    seed: int,
    e0: E0Choice,
    architecture: Architecture | None,
) -> tuple[torch.nn.Module, Architecture, E0Estimate]:
    """Make the module to train, with its heads and E0s in place."""
    if base is None:
        assert architecture is not None
        elements = architecture.atomic_numbers
        estimate = _choose_e0s(e0, lambda known: fit_e0s(elements, train, known), dict.fromkeys(elements, 0.0))
        architecture = _complete(architecture, train, estimate)
        return build_module(architecture, seed=seed), architecture, estimate

    estimate = _choose_e0s(e0, lambda known: estimate_e0s(base, train, known), base.e0s())
    source = base.heads.index(base.head)
    names, sources = [TARGET], [source]
    if strategy.replay != "none":
        names.append(REPLAY)
        sources.append(base.heads.index(REPLAY) if REPLAY in base.heads else source)
    module, architecture = with_heads(base.module, base.architecture, sources, names)
    heads = tuple(
        dataclasses.replace(head, e0s_eV=tuple(estimate.values[z] for z in base.elements))
        if head.name == TARGET
        else head
        for head in architecture.heads
    )
    architecture = dataclasses.replace(architecture, heads=heads)
    energies = module.atomic_energies_fn.atomic_energies
    energies.copy_(torch.as_tensor(architecture.e0_table()))
    return module, architecture, estimate


def _choose_e0s(
    e0: E0Choice, estimate: Callable[[Mapping[int, float]], E0Estimate], base: Mapping[int, float]
) -> E0Estimate:
    if not isinstance(e0, str):
        unknown = set(e0) - set(base)
        if unknown:
            raise ValueError(f"e0 names the elements {sorted(unknown)}, which the model does not know")
        return estimate(e0)
    if e0 == "estimated":
        return estimate({})
    if e0 == "foundation":
        return E0Estimate(base, rank_deficient=False, message=None)
    raise ValueError(f"unknown e0 {e0!r}; known are estimated, foundation, or values by atomic number")


def _complete(architecture: Architecture, train: Sequence[Record], estimate: E0Estimate) -> Architecture:
    """Fill in what an architecture takes from its training data: E0s, RMS force as scale, mean coordination."""
    frames = [record for record in train if not is_isolated_atom(record)]
    rms_force = float(np.sqrt(np.mean(np.concatenate([r.label.forces.ravel() for r in frames]) ** 2)))
    e0s = tuple(estimate.values[z] for z in architecture.atomic_numbers)
    heads = (Head(TARGET, e0s, scale=rms_force or 1.0),)
    neighbours = architecture.avg_num_neighbors
    if neighbours is None:
        graphs: dict[str, Graph] = {}
        make_samples(frames, dataclasses.replace(architecture, heads=heads), 0, graphs)
        n_edges = sum(graph.edge_index.shape[1] for graph in graphs.values())
        neighbours = n_edges / sum(graph.n_atoms for graph in graphs.values()) or 1.0
    return dataclasses.replace(architecture, heads=heads, avg_num_neighbors=neighbours)


def _run_key(
    base: MaceModel | None,
    architecture: Architecture | None,
    parts: Sequence[Sequence[Record]],
    strategy: Strategy,
    seed: int,
    e0: E0Choice,
) -> str:
    """SHA-256 of all that a run depends on."""
    digest = hashlib.sha256()
    settings = [
        None if base is None else base.hash,
        None if architecture is None else dataclasses.asdict(architecture),
        dataclasses.asdict(strategy),
        seed,
        e0 if isinstance(e0, str) else sorted(e0.items()),
        version("mace-torch"),
    ]
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for part in parts:
        digest.update(f"part {len(part)}".encode())
        for record in part:
            label, provenance = record.label, record.provenance
            digest.update(f"{record.frame.hash} {provenance.group} {provenance.reason}".encode())
            stress = np.zeros(0) if label.stress is None else label.stress
            digest.update(np.concatenate([[label.energy], label.forces.ravel(), stress]).tobytes())
    return digest.hexdigest()
