"""Training and fine-tuning of MACE models: one thin loop on mace's own modules."""

import copy
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curator.datasets.label import Record
from curator.datasets.theories import count_theories
from curator.learners.architecture import Architecture, Head, build_module, with_heads
from curator.learners.base import TrainEvent
from curator.learners.convolution import accelerate
from curator.learners.device import device_of
from curator.learners.e0 import E0Estimate, choose_e0s, is_isolated_atom
from curator.learners.graphs import Graph
from curator.learners.loop import TrainingDiverged, TrainingRun
from curator.learners.lora import attach, merge
from curator.learners.mace import REPLAY, TARGET, MaceModel
from curator.learners.replay import check_pseudolabels, foundation_hash
from curator.learners.samples import Sample, make_batch, make_samples
from curator.learners.strategies import E0Choice, Strategy

START_TOLERANCE_eV_PER_ATOM = 1e-3
"""How far the energy error before the first epoch may be from the one that the E0s promise: rounding explains less."""


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
    adapters
        Factors of the low-rank adapters that were merged into the returned weights; none without LoRA.
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
    adapters: Mapping[str, torch.Tensor]


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

    The weights that come back are the moving average at the epoch that ``strategy.keep`` chooses by the force error on
    the target's validation frames, or at the last epoch where there are none. The same seed, data and settings give
    the same weights, bit for bit, also when the run was killed and continued from its checkpoint (with one thread, on
    one kind of device).

    Parameters
    ----------
    base
        Model to start from, which is not changed; None trains from scratch.
    train, valid
        Frames of the target. Isolated atoms in ``train`` are not trained on; they fix E0s from scratch, and where
        ``e0`` is ``isolated`` or ``average``. May have no ``valid``.
    strategy
        Row of the table of strategies.
    seed
        Of the order of the frames, and of the weights if there is no base.
    replay_train, replay_valid
        Frames that a strategy with replay goes on learning (see `curator.learners.replay`); the others leave them
        alone.
    e0
        ``estimated``: the base's E0s, shifted to fit the labels (from scratch: least squares on the labels);
        ``foundation``: as they are; ``isolated``: those of the isolated atoms in ``train``; ``average``: least
        squares on the labels alone; or values in eV by atomic number, the rest estimated.
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
        If there are no training frames or fewer than a batch, the strategy does not go with what is given, an element
        is unknown, replayed pseudolabels are of another foundation, or the energies do not start where the E0s say.
    TrainingDiverged
        If the loss becomes infinite or not a number. It brings the weights kept so far.
    """
    start_cpu_s = time.process_time()
    _check(base, train, strategy, replay_train, replay_valid)
    if base is None and architecture is None:
        architecture = Architecture(_elements(train), pair_repulsion=True)
    key = run_key(base, architecture, [train, valid, replay_train, replay_valid], strategy, seed, e0)
    module, architecture, e0_estimate = _prepare(base, train, strategy, seed, e0, architecture)
    n_parameters = sum(p.numel() for p in module.parameters())
    if strategy.lora_rank:
        attach(module, strategy, seed=seed)
    accelerate(module)
    module.to(device_of(device) if base is None else base.device)

    graphs: dict[str, Graph] = {}
    target = architecture.head_names.index(TARGET)
    trained_on = [record for record in train if not is_isolated_atom(record)]
    samples = make_samples(trained_on, architecture, target, graphs, differences=strategy.difference > 0)
    if e0_estimate.start_energy_rmse is not None:
        check_start(module, architecture, samples, e0_estimate.start_energy_rmse)
    valid_samples = {TARGET: make_samples(valid, architecture, target, graphs)}
    if strategy.replay != "none":
        replay = architecture.head_names.index(REPLAY)
        samples += make_samples(replay_train, architecture, replay, graphs)
        valid_samples[REPLAY] = make_samples(replay_valid, architecture, replay, graphs)
    if strategy.batch_size > len(samples):
        n = len(samples)
        raise ValueError(
            f"a batch of {strategy.batch_size} is larger than the data: there {'is' if n == 1 else 'are'} {n} "
            f"frame{'' if n == 1 else 's'} to train on; set batch_size to {n}{'' if n == 1 else ' or less'}"
        )

    run = TrainingRun(module, samples, {name: part for name, part in valid_samples.items() if part}, strategy, seed)
    if checkpoint is not None:
        run.restore(checkpoint, key)
    spent_s = run.cpu_s
    last_saved = time.monotonic()
    try:
        while not run.finished:
            event = run.epoch()
            run.cpu_s = spent_s + time.process_time() - start_cpu_s
            if checkpoint is not None and (run.finished or time.monotonic() - last_saved >= checkpoint_interval_s):
                run.save(checkpoint, key)
                last_saved = time.monotonic()
            if on_event is not None:
                on_event(event)
    except TrainingDiverged as error:
        module.load_state_dict(run.best_state)
        merge(module)
        error.model = MaceModel(architecture, module, {"diverged": str(error), "epoch": run.best_epoch})
        raise
    n_trainable = sum(p.numel() for p in run.parameters)
    module.load_state_dict(run.best_state)
    adapters = merge(module)
    metadata = {
        "base": None if base is None else base.hash,
        "foundation": None if base is None else foundation_hash(base),
        "strategy": dataclasses.asdict(strategy),
        "run": key,
        "seed": seed,
        "n_train": len(trained_on),
        "n_replay": len(samples) - len(trained_on),
        "theories": {
            TARGET: count_theories(trained_on),
            REPLAY: count_theories(replay_train) if strategy.replay != "none" else {},
        },
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
        n_parameters=n_parameters,
        n_trainable=n_trainable,
        cpu_s=spent_s + time.process_time() - start_cpu_s,
        adapters=adapters,
    )
    return MaceModel(architecture, module, metadata), report


def _elements(records: Sequence[Record]) -> tuple[int, ...]:
    return tuple(sorted({int(z) for record in records for z in record.frame.numbers}))


def check_start(
    module: torch.nn.Module, architecture: Architecture, samples: Sequence[Sample], promised: float
) -> None:
    """Check that the energies of the module about to be trained are as wrong as its E0s promise.

    The E0s are those in the module itself: mace 0.3.16 overwrites re-estimated ones by the foundation's when the
    elements are the same, and starts 940 instead of 65 meV/atom off.

    Parameters
    ----------
    samples
        Of the target's training frames.
    promised
        RMS error in eV/atom.

    Raises
    ------
    ValueError
        If the error is another.
    """
    parameter = next(module.parameters())
    e0s = architecture.e0_table()
    held = module.get_buffer("atomic_energies_fn.atomic_energies").double().cpu().numpy().reshape(e0s.shape)
    errors = []
    module.eval()
    for start in range(0, len(samples), 8):
        part = samples[start : start + 8]
        batch = make_batch(part, n_elements=e0s.shape[1], dtype=parameter.dtype, device=parameter.device)
        with torch.no_grad():
            energies = module(batch.inputs, compute_force=False)["interaction_energy"].double().cpu().numpy()
        for energy, sample in zip(energies, part, strict=True):
            misplaced = (held - e0s)[sample.head][sample.graph.element_idx.numpy()].sum()
            errors.append((energy + misplaced - sample.energy) / sample.graph.n_atoms)
    found = float(np.sqrt(np.mean(np.square(errors))))
    # Single precision holds a large E0, of all electrons, less exactly.
    if not abs(found - promised) < START_TOLERANCE_eV_PER_ATOM + 1e-6 * np.abs(e0s).max():
        raise ValueError(
            f"the energies start {1000 * found:.0f} meV/atom off the labels where the chosen E0s promise "
            f"{1000 * promised:.0f}: the model does not hold them. Set its E0s to the chosen ones before training"
        )


def _check(
    base: MaceModel | None,
    train: Sequence[Record],
    strategy: Strategy,
    replay_train: Sequence[Record],
    replay_valid: Sequence[Record],
) -> None:
    if all(is_isolated_atom(record) for record in train):
        raise ValueError("no frames to train on (isolated atoms only set E0s)")
    if base is None and strategy.from_foundation:
        raise ValueError(f"strategy {strategy.name!r} needs a foundation model to start from; 'scratch' needs none")
    if base is not None and not strategy.from_foundation:
        raise ValueError(f"strategy {strategy.name!r} starts from random weights; it takes no foundation model")
    if strategy.replay != "none" and not replay_train:
        raise ValueError(f"strategy {strategy.name!r} needs replay frames; give some, or use 'naive'")
    if strategy.replay != "none" and base is not None:
        required = strategy.replay == "pseudolabels"
        check_pseudolabels([*replay_train, *replay_valid], foundation_hash(base), required=required)


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
        estimate = choose_e0s(e0, train, model=None, elements=elements)
        architecture = _complete(architecture, train, estimate)
        return build_module(architecture, seed=seed), architecture, estimate

    estimate = choose_e0s(e0, train, model=base, elements=base.elements)
    source = base.heads.index(base.head)
    names, sources = [TARGET], [source]
    if strategy.replay != "none":
        names.append(REPLAY)
        sources.append(base.heads.index(REPLAY) if REPLAY in base.heads else source)
    module: Any
    if len(base.heads) == len(names) == 1:
        # As `with_heads` would; but to make a module anew takes as long as an epoch of a small data set.
        module, architecture = copy.deepcopy(base.module).train().requires_grad_(True), base.architecture
        architecture = dataclasses.replace(
            architecture, heads=(dataclasses.replace(architecture.heads[0], name=TARGET),)
        )
    else:
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


def run_key(
    base: MaceModel | None,
    architecture: Architecture | None,
    parts: Sequence[Sequence[Record]],
    strategy: Strategy,
    seed: int,
    e0: E0Choice,
) -> str:
    """SHA-256 of all that a run of `fit` depends on; the model that comes back names it in its metadata, as ``run``.

    Parameters
    ----------
    base, architecture, strategy, seed, e0
        As of `fit`.
    parts
        Frames to train on and to validate with, and those to replay: ``train``, ``valid``, ``replay_train``,
        ``replay_valid``.
    """
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
