"""A diffusivity at one temperature: what is known of it, and its JSON."""

from dataclasses import dataclass, replace
from typing import Literal

from curator.datasets.units import CM2_PER_S_PER_A2_PER_PS
from curator.diffusion.arrhenius import Arrhenius, arrhenius_as_json
from curator.diffusion.coefficient import Coefficient
from curator.diffusion.tensor import Tensor
from curator.diffusion.walk import MSDCurve


@dataclass(frozen=True, slots=True, eq=False)
class Diffusivity:
    """Diffusivity at one temperature.

    Attributes
    ----------
    mobile
        Symbol of the mobile species.
    temperature_K
        Temperature in K, or None if it was not given.
    status
        ``measured``; ``bound`` if there were too few hops; ``refused`` if no number would mean anything.
    reasons
        Why not ``measured``; or, if it is, what to be careful about.
    collective
        Diffusivity of the summed displacement of the mobile species, per carrier, in the frame of the host: for a
        single defect that of the defect. None unless measured.
    bound_A2_per_ps
        Upper bound at 97.5 % if the status is ``bound``.
    tracer_bound_A2_per_ps
        That of the self-diffusivity, or None.
    tracer
        Self-diffusivity of a mobile ion, or None; of a liquid the only diffusivity, corrected for the size of the cell
        if the viscosity is known.
    collective_tensor, tracer_tensor
        Their tensors, or None.
    finite_size_A2_per_ps
        What was added to the self-diffusivity of a liquid for the size of its cell, or None.
    haven_ratio
        Self-diffusivity summed over the mobile ions over the collective one, or None.
    haven_ratio_error
        Its standard error, or None.
    n_hops
        Hops worth of collective displacement, ``6 D t / l²``, those of ions that move together counted once, or None
        where they were not counted.
    hop_length_A
        Length l of a hop of the summed displacement in Å.
    replica_error_A2_per_ps
        Standard error of the collective diffusivity from the scatter of four or more trajectories alone, or None.
    stride_ps
        Shortest motion that was looked at.
    time_ps, n_trajectories
        Time after equilibration, and trajectories, that went in.
    pressure_GPa
        Mean pressure, or None.
    volume_A3
        Volume of the cell in Å³, or None where it is not periodic in all directions.
    msd
        Mean squared displacement of the summed mobile species in the frame of the host, per carrier, or None.
    """

    mobile: str
    temperature_K: float | None
    status: Literal["measured", "bound", "refused"]
    reasons: tuple[str, ...]
    collective: Coefficient | None = None
    bound_A2_per_ps: float | None = None
    tracer_bound_A2_per_ps: float | None = None
    tracer: Coefficient | None = None
    collective_tensor: Tensor | None = None
    tracer_tensor: Tensor | None = None
    finite_size_A2_per_ps: float | None = None
    haven_ratio: float | None = None
    haven_ratio_error: float | None = None
    n_hops: float | None = None
    hop_length_A: float | None = None
    replica_error_A2_per_ps: float | None = None
    stride_ps: float | None = None
    time_ps: float = 0.0
    n_trajectories: int = 0
    pressure_GPa: float | None = None
    volume_A3: float | None = None
    msd: MSDCurve | None = None

    @property
    def main(self) -> Coefficient | None:
        """The collective diffusivity; of a liquid the self-diffusivity."""
        return self.collective or self.tracer

    @property
    def D_A2_per_ps(self) -> float | None:
        """Main diffusivity in Å²/ps, or None."""
        return None if self.main is None else self.main.D_A2_per_ps

    @property
    def error_A2_per_ps(self) -> float | None:
        """Its standard error, or None."""
        return None if self.main is None else self.main.error_A2_per_ps


def as_json(result: Diffusivity | Arrhenius) -> dict[str, object]:
    """Diffusivity or Arrhenius fit as JSON values, with the unit in the name of each key."""
    if isinstance(result, Arrhenius):
        return arrhenius_as_json(result)
    d = result
    return {
        "temperature_K": d.temperature_K,
        "D_A2_per_ps": d.D_A2_per_ps,
        "error_A2_per_ps": d.error_A2_per_ps,
        "ci95_A2_per_ps": d.main and list(d.main.ci95_A2_per_ps),
        "D_cm2_per_s": None if d.D_A2_per_ps is None else d.D_A2_per_ps * CM2_PER_S_PER_A2_PER_PS,
        "bound_A2_per_ps": d.bound_A2_per_ps,
        "tracer_bound_A2_per_ps": d.tracer_bound_A2_per_ps,
        "collective": d.collective and _coefficient_as_json(d.collective, d.collective_tensor),
        "tracer": d.tracer and _coefficient_as_json(d.tracer, d.tracer_tensor),
        "finite_size_A2_per_ps": d.finite_size_A2_per_ps,
        "haven_ratio": d.haven_ratio,
        "haven_ratio_error": d.haven_ratio_error,
        "replica_error_A2_per_ps": d.replica_error_A2_per_ps,
        "hops": d.n_hops,
        "hop_length_A": d.hop_length_A,
        "stride_ps": d.stride_ps,
        "time_ps": d.time_ps,
        "n_trajectories": d.n_trajectories,
        "pressure_GPa": d.pressure_GPa,
        "volume_A3": d.volume_A3,
        "status": d.status,
        "reasons": list(d.reasons),
    }


def refused(diffusivity: Diffusivity, reason: str) -> Diffusivity:
    """The same, without the numbers that would mean nothing."""
    return replace(
        diffusivity,
        status="refused",
        reasons=(reason,),
        collective=None,
        bound_A2_per_ps=None,
        tracer_bound_A2_per_ps=None,
        tracer=None,
        collective_tensor=None,
        tracer_tensor=None,
        finite_size_A2_per_ps=None,
        haven_ratio=None,
        haven_ratio_error=None,
        replica_error_A2_per_ps=None,
    )


def _coefficient_as_json(coefficient: Coefficient, tensor: Tensor | None) -> dict[str, object]:
    return {
        "D_A2_per_ps": coefficient.D_A2_per_ps,
        "D_cm2_per_s": coefficient.D_A2_per_ps * CM2_PER_S_PER_A2_PER_PS,
        "error_A2_per_ps": coefficient.error_A2_per_ps,
        "ci95": list(coefficient.ci95_A2_per_ps),
        "tensor": tensor and _tensor_as_json(tensor),
    }


def _tensor_as_json(tensor: Tensor) -> dict[str, object]:
    return {
        "D_A2_per_ps": tensor.D_A2_per_ps.tolist(),
        "error_A2_per_ps": tensor.error_A2_per_ps.tolist(),
        "principal_A2_per_ps": tensor.principal_A2_per_ps.tolist(),
        "principal_error_A2_per_ps": tensor.principal_error_A2_per_ps.tolist(),
        "axes": tensor.axes.tolist(),
        "n_dimensions": tensor.n_dimensions,
    }
