"""Errors of a DFT set-up against the finest of a series, on numbers that are known."""

import json

import numpy as np
import pytest
from ase.units import GPa

from curator import dft_convergence
from curator.backends.base import LabelFailed, LabellerSpec
from curator.datasets.frame import Frame
from curator.datasets.label import Label
from curator.datasets.sources import build_seed
from curator.dft_convergence import convergence_lines, measure_convergence, plot_convergence
from curator.errors import CuratorError

ASKED = {"cutoff_Ry": 90.0, "kpoint_spacing_per_A": 0.4, "charge": 1, "multiplicity": 0}
SPEC = LabellerSpec("dft", "espresso", settings=json.dumps(ASKED))
FRAME = build_seed("lif", None, (1, 1, 1)).frame


def decaying(spec: LabellerSpec, frame: Frame) -> Label:
    """Errors of 1/cutoff² in the forces, 100/cutoff GPa in the pressure and spacing² in both."""
    settings = json.loads(spec.settings)
    assert settings["charge"] == 0  # the frame's, not the campaign's
    error = 9.0 / settings["cutoff_Ry"] ** 2 + settings["kpoint_spacing_per_A"] ** 2
    pressure = 100.0 / settings["cutoff_Ry"] + settings["kpoint_spacing_per_A"] ** 2
    stress = np.array([-pressure * GPa] * 3 + [0.0] * 3)
    return Label(error, np.full((len(frame), 3), error), stress, "t", cpu_s=settings["cutoff_Ry"])


def test_errors_are_those_from_the_finest(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr(dft_convergence, "label_frame", decaying)
    done = []
    points = measure_convergence(SPEC, FRAME, np.random.default_rng(1), lambda n, of: done.append((n, of)))
    assert done[-1] == (8, 8)
    cutoffs, spacings = points[:5], points[5:]
    assert [point.value for point in cutoffs] == pytest.approx([54, 72, 90, 108, 135])
    expected = [9 / value.value**2 - 9 / 135**2 for value in cutoffs]
    assert [point.force_rmse_eV_per_A for point in cutoffs] == pytest.approx(expected)
    assert [point.pressure_error_GPa for point in cutoffs] == pytest.approx(
        [100 / p.value - 100 / 135 for p in cutoffs]
    )
    assert [point.force_rmse_eV_per_A for point in spacings] == pytest.approx([p.value**2 - 0.28**2 for p in spacings])
    assert [(point.setting, point.value) for point in points if point.asked] == [
        ("cutoff_Ry", 90.0),
        ("kpoint_spacing_per_A", 0.4),
    ]
    lines = convergence_lines(points)
    assert sum(line.startswith("* ") for line in lines) == 2
    notes = [line for line in lines if "note" in line]
    assert len(notes) == 1
    assert "kpoint_spacing_per_A 0.4 forces are 82 meV/Å from their limit" in notes[0]
    plot_convergence(points, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10000


def test_a_low_cutoff_is_warned_about(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dft_convergence, "label_frame", decaying)
    low = LabellerSpec("dft", "espresso", settings=json.dumps(ASKED | {"cutoff_Ry": 30.0}))
    notes = [
        line for line in convergence_lines(measure_convergence(low, FRAME, np.random.default_rng(1))) if "GPa" in line
    ]
    assert "at cutoff_Ry 30 the pressure is +1.1 GPa from its limit; give a higher cutoff_Ry" in notes[-1]


def test_a_calculation_that_fails_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dft_convergence, "label_frame", lambda spec, frame: LabelFailed("scf", "not converged", "t"))
    with pytest.raises(CuratorError, match="with cutoff_Ry 54 failed: scf: not converged"):
        measure_convergence(SPEC, FRAME, np.random.default_rng(1))
