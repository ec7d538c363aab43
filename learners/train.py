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
from typing import Any, Literal

import numpy as np
import torch
from torch_ema import ExponentialMovingAverage

from curator.datasets.atomic import atomic_path
from curator.datasets.label import Record
from curator.learners.architecture import Architecture, Head, build_module, with_heads
from curator.learners.base import TrainEvent
from curator.learners.e0 import E0Estimate, estimate_e0s, fit_e0s, is_isolated_atom
from curator.learners.graphs import Graph
from curator.learners.mace import REPLAY, TARGET, MaceModel
from curator.learners.samples import (
    LabelledBatch,
    Sample,
    batch_indices,
    batch_loss,
    make_batch,
    make_samples,
    run_module,
)
from curator.learners.strategies import Strategy

E0Choice = Literal["estimated", "foundation"] | Mapping[int, float]


class TrainingDiverged(RuntimeError):
    """The loss is not a finite number any more."""


@dataclass(frozen=True, slots=True)
class FitReport:
    """What a training run did and what it cost.

    Attributes
    ----------
    n_epochs
        Epochs done.
    best_epoch
        Epoch, counted from 1, whose weights were returned.
    valid_force_rmse, valid_energy_rmse
        Of the returned weights, by head: eV/Å, and eV/atom; empty without validation frames.
    curve
        One event per epoch.
    e0
        E0s of the target head.
    n_parameters, n_trainable
        Numbers of the model and of those that could change.
    cpu_s
        CPU seconds, those before a restart included.
    """

    n_epochs: int
    best_epoch: int
    valid_force_rmse: Mapping[str, float]
    valid_energy_rmse: Mapping[str, float]
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
        Model to start from, which is not changed; None trains from scratch and needs ``architecture``.
    train, valid
        Frames of the target. Isolated atoms in ``train`` fix E0s and are not trained on. May have no ``valid``.
    strategy
        Row of the table of strategies.
    seed
        Of the order of the frames, and of the weights if there is no base.
    replay_train, replay_valid
        Frames of the foundation's own training set, for a strategy with replay.
    e0
        ``estimated``: the base's E0s, shifted to fit the labels (from scratch: least squares on the labels);
        ``foundation``: as they are; or values in eV by atomic number, the rest as they are.
    checkpoint
        File that holds the state of the run, written at the end of an epoch when ``checkpoint_interval_s`` seconds
        have passed, and at the last. A run finds it and goes on; one of other data or settings is ignored. It stays
        when the run is over.
    on_event
        Called after each epoch.

    Raises
    ------
    ValueError
        If there are no training frames, the strategy does not go with what is given, or an element is unknown.
    TrainingDiverged
        If the loss becomes infinite or not a number.
    """
    start_cpu_s = time.process_time()
    _check(base, train, strategy, replay_train, architecture)
    key = _run_key(base, architecture, [train, valid, replay_train, replay_valid], strategy, seed, e0)
    module, architecture, e0_estimate = _prepare(base, train, strategy, seed, e0, architecture)
    module.to(device if base is None else base.device)

    graphs: dict[str, Graph] = {}
    target = architecture.head_names.index(TARGET)
    trained_on = [record for record in train if not is_isolated_atom(record)]
    samples = make_samples(trained_on, architecture, target, graphs, anchors=strategy.difference > 0)
    valid_samples = {TARGET: make_samples(valid, architecture, target, graphs)}
    if strategy.replay != "none":
        replay = architecture.head_names.index(REPLAY)
        samples += make_samples(replay_train, architecture, replay, graphs)
        valid_samples[REPLAY] = make_samples(replay_valid, architecture, replay, graphs)

    run = _Run(module, samples, {name: part for name, part in valid_samples.items() if part}, strategy, seed)
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
        n_epochs=len(run.curve),
        best_epoch=run.best_epoch,
        valid_force_rmse=run.best_errors[0],
        valid_energy_rmse=run.best_errors[1],
        curve=tuple(run.curve),
        e0=e0_estimate,
        n_parameters=sum(p.numel() for p in module.parameters()),
        n_trainable=trainable,
        cpu_s=spent_s + time.process_time() - start_cpu_s,
    )
    return MaceModel(architecture, module, metadata), report


class _Run:
    """State of a training run between two epochs."""

    def __init__(
        self,
        module: torch.nn.Module,
        samples: Sequence[Sample],
        valid: Mapping[str, Sequence[Sample]],
        strategy: Strategy,
        seed: int,
    ) -> None:
        self.module = module
        self.samples = samples
        self.strategy = strategy
        self.seed = seed
        self.parameters = []
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name.startswith(strategy.trainable))
            if parameter.requires_grad:
                self.parameters.append(parameter)
        if not self.parameters:
            raise ValueError(
                f"strategy {strategy.name!r} trains nothing: no parameter begins with {strategy.trainable}"
            )
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=strategy.learning_rate,
            weight_decay=strategy.weight_decay,
            amsgrad=strategy.amsgrad,
        )
        self.ema = ExponentialMovingAverage(self.parameters, decay=strategy.ema_decay)
        self.weights = [strategy.target, strategy.replay_weights]
        self.valid = {
            head: [self._batch(part[i : i + 8]) for i in range(0, len(part), 8)] for head, part in valid.items()
        }
        self.curve: list[TrainEvent] = []
        self.best_epoch = 0
        self.best_state: dict[str, torch.Tensor] = {}
        self.best_errors: tuple[dict[str, float], dict[str, float]] = ({}, {})
        self.cpu_s = 0.0

    @property
    def finished(self) -> bool:
        """Whether the last epoch is done, or patience is at an end."""
        n_done = len(self.curve)
        has_valid = TARGET in self.valid
        return n_done >= self.strategy.max_epochs or (has_valid and n_done - self.best_epoch >= self.strategy.patience)

    def epoch(self) -> TrainEvent:
        """Train on every sample once, validate, and keep the weights if they are the best."""
        strategy, n_done = self.strategy, len(self.curve)
        learning_rate = strategy.learning_rate_at(n_done)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        # The order depends on seed and epoch alone, so that a continued run goes on as if nothing had happened.
        rng = np.random.default_rng([self.seed, n_done])
        losses, counts = [], []
        self.module.train()
        for idx in batch_indices([s.group for s in self.samples], strategy.batch_size, rng):
            losses.append(self._step(self._batch([self.samples[i] for i in idx])))
            counts.append(len(idx))
        forces, energies = self._validate()
        event = TrainEvent(
            epoch=n_done + 1,
            n_epochs=strategy.max_epochs,
            loss=float(np.average(losses, weights=counts)),
            valid_force_rmse=forces,
            learning_rate=learning_rate,
        )
        self.curve.append(event)
        if TARGET not in forces or not self.best_state or forces[TARGET] < self.best_errors[0][TARGET]:
            self.best_epoch = event.epoch
            self.best_errors = (forces, energies)
            with self.ema.average_parameters():
                self.best_state = copy.deepcopy(self.module.state_dict())
        return event

    def _step(self, batch: LabelledBatch) -> float:
        out = run_module(self.module, batch, training=True)
        loss = batch_loss(
            out, batch, self.weights, huber_delta=self.strategy.huber_delta, difference=self.strategy.difference
        )
        value = float(loss)
        if not np.isfinite(value):
            raise TrainingDiverged(
                f"the loss became {value} in epoch {len(self.curve) + 1} at learning rate "
                f"{self.optimizer.param_groups[0]['lr']:.1e}; lower learning_rate or look for absurd labels"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters, self.strategy.clip_norm)
        self.optimizer.step()
        self.ema.update()
        return value

    def _validate(self) -> tuple[dict[str, float], dict[str, float]]:
        """Force RMSE in eV/Å and energy RMSE in eV/atom of the averaged weights, by head."""
        forces: dict[str, float] = {}
        energies: dict[str, float] = {}
        self.module.eval()
        with self.ema.average_parameters():
            for head, batches in self.valid.items():
                force_errors, energy_errors = [], []
                for batch in batches:
                    out = run_module(self.module, batch, training=False)
                    force_errors.append((out["forces"] - batch.forces).detach().flatten())
                    energy_errors.append(((out["interaction_energy"] - batch.energy) / batch.n_atoms).detach())
                forces[head] = float(torch.cat(force_errors).square().mean().sqrt())
                energies[head] = float(torch.cat(energy_errors).square().mean().sqrt())
        return forces, energies

    def _batch(self, samples: Sequence[Sample]) -> LabelledBatch:
        parameter = next(self.module.parameters())
        n_elements = self.module.get_buffer("atomic_numbers").numel()
        return make_batch(samples, n_elements=n_elements, dtype=parameter.dtype, device=parameter.device)

    def save(self, path: Path, key: str) -> None:
        """Write the whole state to ``path``, at once or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "key": key,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
            "curve": [dataclasses.asdict(event) for event in self.curve],
            "best_epoch": self.best_epoch,
            "best_state": self.best_state,
            "best_errors": list(self.best_errors),
            "cpu_s": self.cpu_s,
        }
        with atomic_path(path) as aside:
            torch.save(state, aside)

    def restore(self, path: Path, key: str) -> None:
        """Take up the state in ``path`` if there is one of this very run."""
        if not path.is_file():
            return
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["key"] != key:
            return
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])
        self.curve = [TrainEvent(**event) for event in state["curve"]]
        self.best_epoch = state["best_epoch"]
        self.best_state = state["best_state"]
        self.best_errors = tuple(state["best_errors"])
        self.cpu_s = state["cpu_s"]


def _check(
    base: MaceModel | None,
    train: Sequence[Record],
    strategy: Strategy,
    replay_train: Sequence[Record],
    architecture: Architecture | None,
) -> None:
    if all(is_isolated_atom(record) for record in train):
        raise ValueError("no frames to train on (isolated atoms only set E0s)")
    if base is None and (strategy.from_foundation or architecture is None):
        raise ValueError(
            f"strategy {strategy.name!r} needs a foundation model, or is 'scratch' and needs an architecture"
        )
    if base is not None and not strategy.from_foundation:
        raise ValueError(f"strategy {strategy.name!r} starts from random weights; it takes no foundation model")
    if strategy.replay != "none" and not replay_train:
        raise ValueError(f"strategy {strategy.name!r} needs replay frames; give some, or use 'naive'")
    if strategy.replay == "none" and replay_train:
        raise ValueError(f"strategy {strategy.name!r} makes no use of replay frames; leave them out")


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
        estimate = _choose_e0s(e0, lambda: fit_e0s(elements, train), dict.fromkeys(elements, 0.0))
        architecture = _complete(architecture, train, estimate)
        return build_module(architecture, seed=seed), architecture, estimate

    estimate = _choose_e0s(e0, lambda: estimate_e0s(base, train), base.e0s())
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


def _choose_e0s(e0: E0Choice, estimate: Callable[[], E0Estimate], base: Mapping[int, float]) -> E0Estimate:
    if not isinstance(e0, str):
        return E0Estimate({**base, **e0}, rank_deficient=False, message=None)
    if e0 == "estimated":
        return estimate()
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
