"""What ``curator diffusion`` tells a person."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from curator.datasets.units import CM2_PER_S_PER_A2_PER_PS as CM2

if TYPE_CHECKING:
    from curator.diffusion.arrhenius import Extrapolated
    from curator.diffusion.coefficient import Coefficient
    from curator.diffusion.conductivity import Conductivity
    from curator.diffusion.measurement import Arrhenius, Diffusivity


def lines_of(found: "Diffusivity", carriers: int, conductivity: "Conductivity | None") -> list[str]:
    """A diffusivity for a person."""
    of = "" if found.collective is None else f" of each of {carriers} carriers" if carriers > 1 else " of one carrier"
    if found.main is not None:
        line = f"D{of} = {_with_interval(found.main)} ({found.main.D_A2_per_ps * CM2:.3g} cm²/s)"
    elif found.bound_A2_per_ps is not None:
        line = f"D{of} < {found.bound_A2_per_ps:.3g} Å²/ps"
    else:
        line = "refused"
    hops = "" if found.n_hops is None else f"{found.n_hops:.0f} hops in "
    pressure = "" if found.pressure_GPa is None else f", at {found.pressure_GPa:.1f} GPa"
    lines = [f"{found.temperature_K:g} K: {line}, {hops}{found.time_ps:.0f} ps{pressure}"]
    if found.collective is not None and found.tracer is not None:
        lines.append(f"D of an ion, the tracer's = {_with_interval(found.tracer)}")
    if found.haven_ratio is not None:
        lines.append(f"Haven ratio {found.haven_ratio:.2g} ± {found.haven_ratio_error:.2g}")
    if conductivity is not None:
        lines.append(_conductivity_line(conductivity))
    if found.finite_size_A2_per_ps is not None:
        lines.append(f"of it {found.finite_size_A2_per_ps:.3g} Å²/ps were added for the size of the cell")
    return [*lines, *found.reasons]


def extrapolated_line(found: "Extrapolated", conductivity: "Conductivity | None") -> str:
    """A diffusivity on the line of an Arrhenius fit for a person."""
    line = f"{found.temperature_K:g} K, by the line: D = {_with_interval(found)}"
    line += f" ({found.D_A2_per_ps * CM2:.3g} cm²/s)"
    return "; ".join([line, *([] if conductivity is None else [_conductivity_line(conductivity)]), *found.reasons])


def _with_interval(found: "Coefficient | Extrapolated") -> str:
    low, high = found.ci95_A2_per_ps
    return f"{found.D_A2_per_ps:.3g} ± {found.error_A2_per_ps:.2g} Å²/ps, {low:.3g} to {high:.3g}"


def _conductivity_line(found: "Conductivity") -> str:
    if found.mS_per_cm is None or found.ci95_mS_per_cm is None:
        return f"conductivity < {_written(found.bound_mS_per_cm)} mS/cm"
    low, high = map(_written, found.ci95_mS_per_cm)
    error = _written(found.error_mS_per_cm, digits=2)
    return f"conductivity = {_written(found.mS_per_cm)} ± {error} mS/cm, {low} to {high}"


def _written(value: float | None, digits: int = 3) -> str:
    """Without an exponent where there are thousands of a small unit."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 10**digits else f"{value:.{digits}g}"


def legend(measured: "Sequence[Diffusivity]") -> list[str]:
    """What the numbers behind a value mean, once."""
    if all(found.main is None for found in measured):
        return []
    return ["± is one standard error, and the range behind it is the 95 % interval"]


def no_fit(fit: "Arrhenius | None", measured: "Sequence[Diffusivity]") -> list[str]:
    """Why several temperatures have no activation energy."""
    if fit is not None or len(measured) == 1:
        return []
    n_measured = len({found.temperature_K for found in measured if found.main is not None})
    return [f"no Ea: D was measured at {n_measured} of {len(measured)} temperatures"]


def arrhenius_lines(fit: "Arrhenius") -> list[str]:
    """An activation energy for a person."""
    low, high = fit.temperatures_K
    fitted = "" if fit.p_value is None else f", chi² {fit.chi2:.1f} for {fit.dof}, p = {fit.p_value:.2g}"
    return [
        f"Ea = {fit.Ea_eV:.3f} ± {fit.error_eV:.3f} eV, {fit.ci95_eV[0]:.3f} to {fit.ci95_eV[1]:.3f}",
        f"D0 = {fit.D0_A2_per_ps:.3g} ± {fit.error_D0_A2_per_ps:.2g} Å²/ps",
        f"from {fit.n_temperatures} temperatures, {low:g} to {high:g} K, {fit.n_trajectories} trajectories, "
        f"{fit.n_hops:.0f} hops in {fit.time_ps:.0f} ps{fitted}",
        *fit.reasons,
    ]
