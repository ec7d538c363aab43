"""The training loop: epochs, validation of the moving average, and a state that a killed run goes on from."""

import copy
import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_ema import ExponentialMovingAverage

from curator.datasets.atomic import atomic_path
from curator.datasets.notice import Notice
from curator.learners.base import TrainEvent
from curator.learners.lora import is_adapter
from curator.learners.mace import TARGET, MaceModel
from curator.learners.samples import LabelledBatch, Sample, batch_indices, batch_loss, make_batch, run_module
from curator.learners.strategies import Strategy


class TrainingDiverged(RuntimeError):
    """The loss is not a finite number any more.

    Attributes
    ----------
    model
        The weights that training would have returned had it ended with the epoch before; None inside the loop.
    """

    model: MaceModel | None = None


class TrainingRun:
    """State of a training run between two epochs.

    The first head of the module is the target's, the second, if there is one, the replay's.
    """

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
            parameter.requires_grad_(is_adapter(name) if strategy.lora_rank else name.startswith(strategy.trainable))
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
        # Epoch 0 is the start itself: if training only makes it worse, it is what comes back.
        self.best_epoch = 0
        self.best_state = copy.deepcopy(module.state_dict())
        forces, energies, standard_error = self._validate()
        self.best_errors = self.start_errors = (forces, energies)
        self.lowest = forces.get(TARGET, np.inf)
        self.limit = self.lowest + standard_error
        self.cpu_s = 0.0

    @property
    def finished(self) -> bool:
        """Whether the last epoch is done, or patience is at an end."""
        n_done = len(self.curve)
        has_valid = TARGET in self.valid
        return n_done >= self.strategy.max_epochs or (has_valid and n_done - self.best_epoch >= self.strategy.patience)

    def epoch(self) -> TrainEvent:
        """Train on the target's samples and the replayed ones, validate, keep the weights if they are worth it."""
        strategy, n_done = self.strategy, len(self.curve)
        learning_rate = strategy.learning_rate_at(n_done)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        # The order depends on seed and epoch alone, so that a continued run goes on as if nothing had happened.
        rng = np.random.default_rng([self.seed, n_done])
        samples = self._drawn(rng)
        losses, counts = [], []
        self.module.train()
        for idx in batch_indices([s.group for s in samples], strategy.batch_size, rng):
            losses.append(self._step([samples[i] for i in idx]))
            counts.append(len(idx))
        forces, energies, standard_error = self._validate()
        event = TrainEvent(
            epoch=n_done + 1,
            n_epochs=strategy.max_epochs,
            loss=float(np.average(losses, weights=counts)),
            valid_force_rmse=forces,
            learning_rate=learning_rate,
        )
        self.curve.append(event)
        lowest_before = self.lowest
        error = forces.get(TARGET)
        if error is not None and error < self.lowest:
            self.lowest, self.limit = error, error + standard_error
        if error is None or error < lowest_before or (strategy.keep == "newest" and error <= self.limit):
            self.best_epoch = event.epoch
            self.best_errors = (forces, energies)
            with self.ema.average_parameters():
                self.best_state = copy.deepcopy(self.module.state_dict())
        return event

    def _drawn(self, rng: np.random.Generator) -> Sequence[Sample]:
        """Samples of an epoch: all of the target's, and of the replay's as many as the strategy wants."""
        n, replayed = self.strategy.replay_per_epoch, [s for s in self.samples if s.head > 0]
        if n is None or n >= len(replayed):
            return self.samples
        drawn = rng.choice(len(replayed), n, replace=False)
        return [*(s for s in self.samples if s.head == 0), *(replayed[i] for i in np.sort(drawn))]

    def _step(self, samples: Sequence[Sample]) -> float:
        batch = self._batch(samples)
        out = run_module(self.module, batch, training=True)
        loss = batch_loss(
            out, batch, self.weights, huber_delta=self.strategy.huber_delta, difference=self.strategy.difference
        )
        value = loss.item()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.strategy.clip_norm).item()
        # Before the step: weights that are not finite would be worth nothing.
        if not (np.isfinite(value) and np.isfinite(norm)):
            raise TrainingDiverged(
                f"the loss became {value} (gradient {norm}) in epoch {len(self.curve) + 1} at learning rate "
                f"{self.optimizer.param_groups[0]['lr']:.1e} on the frames {', '.join(s.origin for s in samples)}; "
                "lower learning_rate or look for absurd labels there"
            )
        self.optimizer.step()
        self.ema.update()
        return value

    def _validate(self) -> tuple[dict[str, float], dict[str, float], float]:
        """Force RMSE in eV/Å and energy RMSE in eV/atom of the averaged weights by head; standard error of the first.

        The standard error is of the target head's, from the scatter over frames; infinite if there is only one.
        """
        forces: dict[str, float] = {}
        energies: dict[str, float] = {}
        standard_error = 0.0
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
                if head == TARGET:
                    n_components = [3 * int(n) for batch in batches for n in batch.n_atoms]
                    parts = torch.split(torch.cat(force_errors), n_components)
                    squares = [part.square().mean().item() for part in parts]
                    scatter = np.std(squares, ddof=1) / np.sqrt(len(squares)) if len(squares) > 1 else np.inf
                    standard_error = float(scatter / (2 * forces[head])) if forces[head] else 0.0
        return forces, energies, standard_error

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
            "lowest": self.lowest,
            "limit": self.limit,
            "start_errors": list(self.start_errors),
            "cpu_s": self.cpu_s,
        }
        with atomic_path(path) as aside:
            torch.save(state, aside)

    def restore(self, path: Path, key: str) -> None:
        """Take up the state in ``path`` if there is one of this very run, and tell which of the two."""
        if not path.is_file():
            return
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["key"] != key:
            warnings.warn(
                f"{path}: is of other data or settings; it is left aside, and the training begins anew",
                Notice,
                stacklevel=3,
            )
            return
        warnings.warn(f"{path}: going on from epoch {len(state['curve'])}", Notice, stacklevel=3)
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])
        self.curve = [TrainEvent(**event) for event in state["curve"]]
        self.best_epoch = state["best_epoch"]
        self.best_state = state["best_state"]
        self.best_errors = tuple(state["best_errors"])
        self.lowest, self.limit = state["lowest"], state["limit"]
        self.start_errors = tuple(state["start_errors"])
        self.cpu_s = state["cpu_s"]
