"""Conductivities: by hand, and of ions that do not know of each other."""

import json

import kmc
import numpy as np
import pytest
from walks import measure_ions

from curator.diffusion.coefficient import Coefficient
from curator.diffusion.conductivity import conductivity, conductivity_as_json
from curator.diffusion.measurement import Diffusivity, diffusivity_of_positions

E_C, KB_J_PER_K = 1.602176634e-19, 1.380649e-23


def test_by_hand():
    """Four carriers of 1 ± 0.1 Å²/ps each in 1000 Å³ at 500 K: n q² D / (V kT), in SI; 1 S/m is 10 mS/cm."""
    coefficient = Coefficient(1.0, 0.1, (0.8, 1.3))
    found = Diffusivity("Li", 500.0, "measured", (), coefficient, volume_A3=1000.0)
    known = 10 * 4 * E_C**2 * 1e-8 / (1000e-30 * KB_J_PER_K * 500)
    assert known == pytest.approx(1487.4, rel=1e-4)
    sigma = conductivity(found, 1.0, 4)
    assert sigma is not None
    # The constants of 2018 are not those that the temperature is taken with.
    assert sigma.mS_per_cm == pytest.approx(known, rel=1e-5)
    assert sigma.error_mS_per_cm == pytest.approx(0.1 * known, rel=1e-5)
    assert sigma.ci95_mS_per_cm == pytest.approx((0.8 * known, 1.3 * known), rel=1e-5)
    double = conductivity(found, -2.0, 4)
    assert double is not None
    assert double.mS_per_cm == pytest.approx(4 * known, rel=1e-5)
    content = json.loads(json.dumps(conductivity_as_json(sigma)))
    assert content.keys() == {"mS_per_cm", "error", "ci95", "bound"}
    assert content["ci95"] == pytest.approx([0.8 * known, 1.3 * known], rel=1e-5)


def test_a_bound_gives_a_bound_and_a_refusal_nothing():
    bound = conductivity(Diffusivity("Li", 500.0, "bound", (), bound_A2_per_ps=0.01, volume_A3=1000.0), 1.0, 1)
    assert bound is not None
    assert (bound.mS_per_cm, bound.ci95_mS_per_cm) == (None, None)
    assert bound.bound_mS_per_cm == pytest.approx(1487.4 / 4 / 100, rel=1e-4)
    assert conductivity(Diffusivity("Li", 500.0, "refused", ()), 1.0, 1) is None


def test_independent_ions_conduct_by_nernst_and_einstein():
    """Nothing correlates them, so that n ions with the tracer's D are the sum; by how many it is shared is the same."""
    rng = np.random.default_rng(3)
    n, rate, length_A, temperature_K = 16, 0.5, 40.0, 700.0
    ions = kmc.hoppers(rng, n, rate, 400, 0.1)
    found = {shared: measure_ions(ions, n_carriers=shared, temperature_K=temperature_K) for shared in (1, n)}
    known = 10 * n * E_C**2 * kmc.known_D(rate) * 1e-8 / ((length_A * 1e-10) ** 3 * KB_J_PER_K * temperature_K)
    one, each = (conductivity(d, 1.0, shared) for shared, d in found.items())
    assert one is not None
    assert each is not None
    assert one.mS_per_cm == pytest.approx(each.mS_per_cm)
    assert each.ci95_mS_per_cm[0] < known < each.ci95_mS_per_cm[1]
    by_tracer = each.mS_per_cm * found[n].haven_ratio
    assert by_tracer == pytest.approx(known, rel=3 * found[n].tracer.error_A2_per_ps / found[n].tracer.D_A2_per_ps)


def test_without_a_volume_there_is_none():
    positions = kmc.defect(np.random.default_rng(0), 1.0, 20, 0.1)
    for pbc, volume_A3 in (([True, True, True], pytest.approx(8.0)), ([True, True, False], None)):
        found = diffusivity_of_positions(positions, [3, 9], 2 * np.eye(3), 100.0, mobile="Li", pbc=pbc, unwrapped=True)
        assert found.volume_A3 == volume_A3
    found = Diffusivity("Li", 500.0, "measured", (), Coefficient(1.0, 0.1, (0.8, 1.3)))
    with pytest.raises(ValueError, match="a conductivity needs a temperature and a cell that is periodic in all"):
        conductivity(found, 1.0, 1)
