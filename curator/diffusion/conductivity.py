"""Ionic conductivity: what the collective diffusivity is worth to a charge."""

from dataclasses import dataclass

from curator.datasets.units import C_PER_E, KB_EV_PER_K
from curator.diffusion.arrhenius import Extrapolated
from curator.diffusion.coefficient import Coefficient
from curator.diffusion.diffusivity import Diffusivity

MS_PER_CM_PER_E_PER_V_A_PS: float = C_PER_E * 1e10 * 1e12 * 10
"""Factor from e/(V Å ps), which is e²/(eV Å ps), to mS/cm."""


@dataclass(frozen=True, slots=True)
class Conductivity:
    """Ionic conductivity in mS/cm.

    Attributes
    ----------
    mS_per_cm, error_mS_per_cm, ci95_mS_per_cm
        Conductivity, its standard error and its 95 % interval, or None where the diffusivity is only bounded.
    bound_mS_per_cm
        Upper bound at 97.5 %, or None.
    """

    mS_per_cm: float | None = None
    error_mS_per_cm: float | None = None
    ci95_mS_per_cm: tuple[float, float] | None = None
    bound_mS_per_cm: float | None = None


def conductivity(found: Diffusivity, ion_charge_e: float, n_carriers: int) -> Conductivity | None:
    """Ionic conductivity of one mobile species, its host being the frame of reference.

    See `mS_per_cm_of`; errors are those of the diffusivity, for everything else is known.

    Parameters
    ----------
    found
        Diffusivity in a solid; in a liquid the collective one is not measured.
    ion_charge_e
        Charge of a mobile ion in e, also where vacancies carry it.
    n_carriers
        Carriers the collective diffusivity was shared by.

    Returns
    -------
    Conductivity
        Or None if there is neither a collective diffusivity nor a bound on it.

    Raises
    ------
    ValueError
        If there is a diffusivity, but no temperature or no volume.
    """
    if found.collective is None and found.bound_A2_per_ps is None:
        return None
    if found.temperature_K is None or found.volume_A3 is None:
        raise ValueError("a conductivity needs a temperature and a cell that is periodic in all directions")
    if found.collective is not None:
        return conductivity_of(found.collective, found.temperature_K, found.volume_A3, ion_charge_e, n_carriers)
    per_D = mS_per_cm_of(1.0, found.temperature_K, found.volume_A3, ion_charge_e, n_carriers)
    return Conductivity(bound_mS_per_cm=found.bound_A2_per_ps and found.bound_A2_per_ps * per_D)


def conductivity_of(
    D: Coefficient | Extrapolated, temperature_K: float, volume_A3: float, ion_charge_e: float, n_carriers: int
) -> Conductivity:
    """Conductivity of a collective diffusivity per carrier with its error; parameters as of `mS_per_cm_of`."""
    per_D = mS_per_cm_of(1.0, temperature_K, volume_A3, ion_charge_e, n_carriers)
    low, high = D.ci95_A2_per_ps
    return Conductivity(D.D_A2_per_ps * per_D, D.error_A2_per_ps * per_D, (low * per_D, high * per_D))


def mS_per_cm_of(
    D_A2_per_ps: float, temperature_K: float, volume_A3: float, ion_charge_e: float, n_carriers: int
) -> float:
    r"""Conductivity in mS/cm of a collective diffusivity per carrier.

    The Einstein-Helfand relation (E. Helfand, Phys. Rev. 119, 1 (1960)),

    .. math::
        \sigma = \lim_{t \to \infty} \frac{\langle |q \sum_i \Delta r_i(t)|^2 \rangle}{6 V k T t}
        = \frac{n q^2 D}{V k T},

    with the diffusivity nD of the summed displacement of the ions, and so the same whatever n that was shared by. With
    the self-diffusivity of an ion, and n ions, it would be the Nernst-Einstein relation, which is off by the Haven
    ratio (G. E. Murch, Solid State Ionics 7, 177 (1982)).

    Parameters
    ----------
    D_A2_per_ps
        Collective diffusivity per carrier in Å²/ps.
    temperature_K, volume_A3
        Temperature in K, and volume of the cell in Å³.
    ion_charge_e
        Charge of a mobile ion in e; its sign does not matter.
    n_carriers
        Carriers n.
    """
    kT_eV = KB_EV_PER_K * temperature_K
    return MS_PER_CM_PER_E_PER_V_A_PS * n_carriers * ion_charge_e**2 * D_A2_per_ps / (volume_A3 * kT_eV)


def conductivity_as_json(found: Conductivity) -> dict[str, object]:
    """Conductivity as JSON values, in mS/cm."""
    return {
        "mS_per_cm": found.mS_per_cm,
        "error": found.error_mS_per_cm,
        "ci95": found.ci95_mS_per_cm and list(found.ci95_mS_per_cm),
        "bound": found.bound_mS_per_cm,
    }
