"""Fine-tuning strategies: rows of a table, not classes.

The column ``paper`` is Table 7 of arXiv:2606.12704 (hundreds to thousands of frames, hours on a GPU). The column
``small_data`` is for tens of frames of 30 to 65 atoms and minutes on one core: fewer steps, so a faster average and
a learning rate that decays, small batches, and an energy weight under which differences of total energy count. Its
rows differ from one another only in what makes the strategy, and in the learning rate where the paper has that ten
times higher: adapters start from nothing, as random weights do, and share their rate.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

REPLAY_FRAMES = 1500
"""Frames that are taken for replay by default."""

REPLAYS_NOTHING = "replays nothing; drop it, or take multihead_replay or pseudolabel_replay"

Defaults = Literal["small_data", "paper"]
E0Policy = Literal["estimated", "foundation", "isolated", "average"]
E0_POLICIES: tuple[E0Policy, ...] = get_args(E0Policy)
E0Choice = E0Policy | Mapping[int, float]
"""Policy by which the energies of isolated atoms are chosen, or values in eV by atomic number."""


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weights of one head in the loss."""

    energy: float
    forces: float
    stress: float


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a model is trained.

    Attributes
    ----------
    name
        Row of the table it comes from.
    trainable
        Prefixes of the names of the parameters that change; the empty prefix is all of them.
    lora_rank, lora_alpha
        With a rank, the parameters named by ``trainable`` are frozen and their linear layers get adapters of this
        rank, which change; ``alpha / rank`` scales them, and None is an alpha equal to the rank.
    replay
        ``none``; or a second head keeps learning what the foundation knows: ``data`` are frames of the foundation's
        own training set, ``pseudolabels`` any frames with the foundation's own energies, forces and stresses.
    replay_per_epoch
        Replayed frames of an epoch, drawn anew for each; None is all that there are.
    from_foundation
        Whether it starts from a model rather than from random weights.
    learning_rate, schedule, lr_decay
        AdamW's learning rate of the first epoch, and how it goes on: ``constant``, ``exponential`` (times
        ``lr_decay`` each epoch), ``cosine`` (down to ``lr_decay`` times the first over all epochs).
    ema_decay
        Decay per step of the moving average of the weights that is validated and returned.
    clip_norm
        Largest norm of the gradient.
    target, replay_weights
        Loss weights of the two heads.
    difference
        Weight of the Huber loss of differences of total energy within each group of anchors or of marked frames.
    huber_delta
        Error in eV/atom, eV/Å, eV/Å³ beyond which the loss grows linearly.
    batch_size, max_epochs, patience
        Frames a step; most epochs; epochs without weights worth keeping before it stops.
    keep
        Which weights are returned: the ``best`` on the validation forces, or the ``newest`` that are within one
        standard error of the best (Breiman et al., *Classification and Regression Trees*, 1984): a handful of
        validation frames cannot tell epochs apart, and the lowest error among many picks an early one by chance.
    """

    name: str
    trainable: tuple[str, ...] = ("",)
    lora_rank: int = 0
    lora_alpha: float | None = None
    replay: Literal["none", "data", "pseudolabels"] = "none"
    replay_per_epoch: int | None = None
    from_foundation: bool = True
    learning_rate: float = 1e-3
    schedule: Literal["constant", "exponential", "cosine"] = "constant"
    lr_decay: float = 1.0
    ema_decay: float = 0.999
    clip_norm: float = 10.0
    weight_decay: float = 0.0
    amsgrad: bool = True
    target: LossWeights = LossWeights(10.0, 10.0, 1.0)
    replay_weights: LossWeights = LossWeights(1.0, 10.0, 1.0)
    difference: float = 0.0
    huber_delta: float = 0.01
    batch_size: int = 4
    max_epochs: int = 200
    patience: int = 50
    keep: Literal["best", "newest"] = "best"

    def __post_init__(self) -> None:
        if self.lora_rank < 0 or (self.lora_alpha is not None and not self.lora_alpha > 0):
            raise ValueError(
                f"strategy {self.name!r}: lora_rank must not be negative and lora_alpha positive; got "
                f"{self.lora_rank} and {self.lora_alpha}"
            )

        if self.lora_rank and not self.from_foundation:
            raise ValueError(
                f"strategy {self.name!r} starts from random weights, which adapters would freeze; drop lora_rank"
            )
        if self.lora_alpha is not None and not self.lora_rank:
            raise ValueError(f"strategy {self.name!r} has no adapters that a lora_alpha could scale; drop it")

    def learning_rate_at(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        if self.schedule == "exponential":
            return self.learning_rate * self.lr_decay**epoch
        if self.schedule == "cosine":
            fraction = (1 + math.cos(math.pi * epoch / self.max_epochs)) / 2
            return self.learning_rate * (self.lr_decay + (1 - self.lr_decay) * fraction)
        return self.learning_rate


class UnusedOverrideError(ValueError):
    """A value is given that the row of the table has no use for.

    Attributes
    ----------
    key
        Name of the value.
    """

    def __init__(self, key: str, finding: str) -> None:
        self.key = key
        super().__init__(finding)


_READOUTS = ("readouts.",)
_PRODUCTS_AND_READOUTS = ("products.", "readouts.")

_PAPER: tuple[Strategy, ...] = (
    Strategy("scratch", from_foundation=False, learning_rate=1e-2, ema_decay=0.99, clip_norm=10.0),
    Strategy("naive", learning_rate=1e-3, ema_decay=0.999, clip_norm=1.0),
    Strategy(
        "freeze_interactions", trainable=_PRODUCTS_AND_READOUTS, learning_rate=1e-3, ema_decay=0.999, clip_norm=1.0
    ),
    Strategy("freeze_products", trainable=_READOUTS, learning_rate=1e-3, ema_decay=0.999, clip_norm=1.0),
    Strategy("lora", lora_rank=4, learning_rate=1e-2, ema_decay=0.99, clip_norm=10.0),
    Strategy("multihead_replay", replay="data", learning_rate=1e-4, ema_decay=0.9999, clip_norm=1.0),
    Strategy("pseudolabel_replay", replay="pseudolabels", learning_rate=1e-4, ema_decay=0.9999, clip_norm=1.0),
    Strategy("replay_lora", lora_rank=4, replay="data", learning_rate=1e-3, ema_decay=0.999, clip_norm=10.0),
)

# At the rate of training from scratch, fine-tuning is no better on the target and the replay head forgets more.
_SMALL = Strategy(
    "",
    learning_rate=3e-3,
    schedule="exponential",
    lr_decay=0.955,
    ema_decay=0.99,
    clip_norm=10.0,
    difference=100.0,
    replay_per_epoch=64,
    batch_size=2,
    max_epochs=75,
    patience=25,
    keep="newest",
)
_SMALL_DATA: tuple[Strategy, ...] = (
    dataclasses.replace(_SMALL, name="scratch", from_foundation=False, learning_rate=1e-2),
    dataclasses.replace(_SMALL, name="naive"),
    dataclasses.replace(_SMALL, name="freeze_interactions", trainable=_PRODUCTS_AND_READOUTS),
    dataclasses.replace(_SMALL, name="freeze_products", trainable=_READOUTS),
    dataclasses.replace(_SMALL, name="lora", lora_rank=4, learning_rate=1e-2),
    dataclasses.replace(_SMALL, name="multihead_replay", replay="data"),
    dataclasses.replace(_SMALL, name="pseudolabel_replay", replay="pseudolabels"),
    dataclasses.replace(_SMALL, name="replay_lora", lora_rank=4, replay="data", learning_rate=1e-2),
)

STRATEGIES: dict[Defaults, dict[str, Strategy]] = {
    "paper": {row.name: row for row in _PAPER},
    "small_data": {row.name: row for row in _SMALL_DATA},
}


def strategy(name: str, defaults: Defaults = "small_data", **overrides: Any) -> Strategy:
    """Row of the table, with some of its values replaced.

    Raises
    ------
    ValueError
        If the row, the column or a value to replace is unknown.
    UnusedOverrideError
        If the row has no use for one of the values: it replays nothing, or has no adapters.
    """
    if defaults not in STRATEGIES:
        raise ValueError(f"unknown defaults {defaults!r}; known are {', '.join(STRATEGIES)}")
    table = STRATEGIES[defaults]
    if name not in table:
        raise ValueError(f"unknown strategy {name!r}; known are {', '.join(table)}")
    known = {field.name for field in dataclasses.fields(Strategy)} - {"name"}
    unknown = set(overrides) - known
    if unknown:
        raise ValueError(f"a strategy has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}")
    row = table[name]
    for key in overrides:
        if key == "replay_per_epoch" and row.replay == "none":
            raise UnusedOverrideError(key, f"{name} {REPLAYS_NOTHING}")
        if key in ("lora_rank", "lora_alpha") and not row.lora_rank:
            raise UnusedOverrideError(key, f"{name} has no adapters; drop it, or take lora or replay_lora")
    return dataclasses.replace(row, **overrides)
