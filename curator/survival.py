"""Whether molecular dynamics with a potential holds out: short, hot trajectories, and what ended those that did not."""

from collections.abc import Sequence
from dataclasses import dataclass

from curator.random_search import wilson95
from curator.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Survival:
    """How many of some trajectories of one temperature and length ran to their end.

    Attributes
    ----------
    temperature_K
        Temperature of the thermostat in K.
    duration_ps
        Length in ps.
    reasons
        Which gate of :class:`curator.trajectory.Gates` closed on each trajectory; empty for one that survived.
    """

    temperature_K: float
    duration_ps: float
    reasons: tuple[str, ...]

    @property
    def n_runs(self) -> int:
        """Trajectories."""
        return len(self.reasons)

    @property
    def n_survived(self) -> int:
        """Those that ran to their end."""
        return self.n_runs - sum(map(bool, self.reasons))

    @property
    def ci95(self) -> tuple[float, float]:
        """Interval of the share that survived, see :func:`curator.random_search.wilson95`."""
        return wilson95(self.n_survived, self.n_runs)


def survival(trajectories: Sequence[Trajectory]) -> Survival:
    """Survival of trajectories that were run alike, from one structure with different seeds."""
    settings = trajectories[0].settings
    return Survival(
        settings.temperature_K, settings.duration_ps, tuple(trajectory.reason for trajectory in trajectories)
    )
