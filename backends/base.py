"""What makes labels: the protocol, its failure as a value, and the test every labeller must pass."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from ase import Atoms

from curator.datasets.label import Label, Theory

FailureReason = Literal["scf", "walltime", "memory", "crash", "parse", "nonfinite", "geometry"]


@dataclass(frozen=True, slots=True)
class LabelFailed:
    """A calculation that did not give a label. It goes to quarantine, never to training."""

    reason: FailureReason
    message: str
    theory: str


@runtime_checkable
class Labeller(Protocol):
    """Calculates energy, forces and, where it can, stress of a configuration."""

    @property
    def theory(self) -> Theory:
        """Level of theory of every label it makes."""
        ...

    def label(self, atoms: Atoms) -> Label | LabelFailed:
        """Label of ``atoms``, which are not changed; a failed calculation is returned, never raised."""
        ...


@dataclass(frozen=True, slots=True)
class LabellerSpec:
    """Names a labeller by plain values, so that a worker in another process can build it.

    Attributes
    ----------
    kind
        ``pseudolabel`` or ``classical``.
    model
        ``chgnet:r2scan``, ``chgnet:0.3.0``, ``chgnet:0.2.0``, a MACE model (``mini-halides``,
        ``mace:medium-mpa-0``, a path), or ``lif-fumi-tosi``.
    device
        ``cpu``, ``cuda`` or ``auto``.
    trust
        Whether a pickled model that is not a known foundation model may be loaded.
    """

    kind: Literal["pseudolabel", "classical"]
    model: str
    device: str = "auto"
    trust: bool = False


def one_line(error: BaseException) -> str:
    """Kind and message of an exception on one line of at most 300 characters."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 300 else text[:299] + "…"
