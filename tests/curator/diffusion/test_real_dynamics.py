"""Diffusivities of real dynamics: first principles, a classical potential, a superionic crystal and its melt."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase.symbols import symbols2numbers

from curator.datasets.frame import Frame
from curator.datasets.sources import build_seed
from curator.diffusion.arrhenius import fit_arrhenius
from curator.diffusion.measurement import diffusivity_of_positions, hop_length, measure_diffusion
from curator.md import run_md
from curator.trajectory import MDSettings


def test_first_principles_dynamics_of_a_fast_conductor(shared_data: Path):
    """Li20Ge2P4S24 at 600 K, 20 ps: a straight line through one origin gives a number, and far too small an error."""
    data = json.loads((shared_data / "diffusion_analyzer" / "DiffusionAnalyzer.json").read_text())
    sites = data["structure"]["sites"]
    numbers = np.array([symbols2numbers(site["species"][0]["element"].rstrip("+-0123456789"))[0] for site in sites])
    displacements = np.array(data["displacements"]).transpose(1, 0, 2)
    start = np.array([site["xyz"] for site in sites])
    cell = np.array(data["structure"]["lattice"]["matrix"])
    interval_fs = data["time_step"] * data["step_skip"]

    lithium = numbers == 3
    in_host = displacements - displacements[:, ~lithium].mean(axis=1, keepdims=True)
    msd = (in_host[:, lithium] ** 2).sum(axis=2).mean(axis=1)
    time_ps = np.arange(1, len(msd) + 1) * interval_fs / 1000
    assert np.polyfit(time_ps, msd, 1)[0] / 6 * 1e-4 == pytest.approx(4.26e-7, rel=1e-3)

    positions = start + np.concatenate([np.zeros((1, 50, 3)), displacements])
    found = diffusivity_of_positions(
        positions, numbers, cell, interval_fs, mobile="Li", temperature_K=600, n_carriers=20
    )
    assert found.status == "bound"
    assert found.reasons[0].startswith("too short to tell hops, about 11.3 in 18 ps,")
    assert found.bound_A2_per_ps * 1e-4 > 4.26e-7


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_lithium_interstitial_of_the_classical_potential():
    """Activation energy of molecular dynamics against the barrier of the potential, about 0.1 eV."""
    from curator.backends.classical import FumiTosiLiF

    seed = build_seed("lif-interstitial", 4.09)
    assert seed.hop is not None
    length = hop_length(seed.hop.initial, seed.hop.final, "Li")
    measured = [
        measure_diffusion(
            [
                run_md(
                    seed.frame, FumiTosiLiF(), MDSettings(temperature_K, 30.0), seed=[1, int(temperature_K), replica]
                )
                for replica in range(4)
            ],
            "Li",
            hop_length_A=length,
        )
        for temperature_K in (600.0, 1100.0)
    ]
    assert all(d.status == "measured" for d in measured)
    fit = fit_arrhenius(measured)
    assert fit is not None
    assert fit.Ea_eV == pytest.approx(0.107, abs=2.5 * fit.error_eV)
    assert fit.error_eV < 0.05


def silver_iodide() -> Frame:
    """alpha-AgI: iodine on a bcc lattice, silver on one tetrahedral site in six."""
    corners = np.array([(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=float)
    silver = np.concatenate([corners + np.array([0.5, 0.0, 0.25]), corners + np.array([0.0, 0.5, 0.75])])
    iodine = np.concatenate([corners, corners + 0.5])
    numbers = np.array([47] * 16 + [53] * 16)
    return Frame(numbers, 5.07 * np.concatenate([silver, iodine]), np.eye(3) * 2 * 5.07, [True] * 3)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("temperature_K", "duration_ps", "status"), [(800.0, 12.0, "refused"), (550.0, 24.0, "measured")]
)
def test_a_superionic_crystal_is_measured_and_its_melt_refused(temperature_K: float, duration_ps: float, status: str):
    from curator.backends.pseudolabel import ChgnetCalculator

    settings = MDSettings(temperature_K, duration_ps, timestep_fs=5.0, frame_interval_fs=50.0)
    run = run_md(silver_iodide(), ChgnetCalculator("0.3.0", device="cpu"), settings, seed=[1, int(temperature_K)])
    assert run.status == "completed"
    found = measure_diffusion([run], "Ag", n_carriers=16)
    assert found.status == status, found.reasons
    if status == "refused":
        assert found.reasons[0].startswith("melted: the host diffuses, as in a melt: D of I is ")
    else:
        # Silver ions of this model, by 8 ps of another run: 0.27 ± 0.05 Å²/ps.
        error = float(np.hypot(0.05, found.tracer.error_A2_per_ps))
        assert abs(found.tracer.D_A2_per_ps - 0.27) < 3 * error
