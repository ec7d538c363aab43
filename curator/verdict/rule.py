"""What counts as converged: the numbers of the stopping rule."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StopRule:
    """What counts as converged.

    Attributes
    ----------
    tolerance_eV
        Within this the activation energy is to be known. Barrier, its gap to the reference, and its spread over the
        committee must hold within half of it.
    window
        Rounds with new labels over which the barrier must hold still, and rounds over which a trend of activation
        energy and diffusivities must not carry them out of their tolerances.
    n_compare
        Earlier rounds with which activation energy and diffusivities must agree.
    diffusivity_factor
        Factor within which diffusivities must agree at each temperature: an activation energy can hold still while
        all diffusivities shift.
    force_error_eV_per_A
        Largest force error on random frames that were not yet trained on, in eV/Å; None tells it and judges nothing.
    force_error_fall
        Share by which that error may be smaller than that of earlier models on the same frames: if it is more, models
        still learn.
    min_new_labels
        Labels below which a round counts as having bought none; an anchor alone is two.
    barrier, diffusion
        Whether the campaign follows a hop, and measures diffusion.
    hottest_explored_K
        Highest temperature that the random frames come from; None tells nothing of it.
    """

    tolerance_eV: float = 0.05
    window: int = 3
    n_compare: int = 2
    diffusivity_factor: float = 2.0
    force_error_eV_per_A: float | None = 0.1
    force_error_fall: float = 0.3
    min_new_labels: int = 4
    barrier: bool = True
    diffusion: bool = True
    hottest_explored_K: float | None = None

    def __post_init__(self) -> None:
        if not self.tolerance_eV > 0 or not self.diffusivity_factor > 1 or self.window < 2 or self.n_compare < 1:
            raise ValueError(
                f"tolerance_eV={self.tolerance_eV} must be positive, diffusivity_factor={self.diffusivity_factor} "
                f"above 1, window={self.window} at least 2 and n_compare={self.n_compare} at least 1"
            )
        target = self.force_error_eV_per_A
        if (target is not None and not target > 0) or not 0 < self.force_error_fall < 1:
            raise ValueError(
                f"force_error_eV_per_A={target} must be positive or None, and "
                f"force_error_fall={self.force_error_fall} between 0 and 1"
            )
