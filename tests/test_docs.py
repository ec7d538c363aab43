"""The Python of the documentation runs as it stands there."""

import re
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from curator.backends.labellers import make_labeller
from curator.datasets.extxyz import read_records
from curator.datasets.label import Theory
from curator.labelling import labeller_of, read_label_file
from curator.learners.strategies import STRATEGIES, Strategy

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: str) -> str:
    """Code of a page, one script."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.M | re.S))


def test_the_page_on_python_is_one_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(blocks("python.md"), "python.md", "exec"), names)
    foundation, model, barrier, cold, warm, hot, activation = capsys.readouterr().out.splitlines()
    assert float(model.split()[0]) < 0.7 * float(foundation.split()[0])
    assert (tmp_path / "model" / "model.safetensors").exists()
    assert float(barrier.split()[0]) == pytest.approx(0.17, abs=0.02)
    for line, true in ((cold, 0.225), (warm, 0.45), (hot, 0.9)):
        value, error = map(float, re.search(r"D = (\S+) ± (\S+)", line).groups())  # type: ignore[union-attr]
        assert "measured" in line
        assert abs(value - true) < 3 * error
    assert activation.startswith("Ea = ")


def test_the_script_on_uncertainty_tells_frames_that_are_far_off(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(blocks("uncertainty.md"), "uncertainty.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    errors = [float(line.split()[0]) for line in lines]
    assert ["outside" in line for line in lines[3:]] == [True] * 3
    assert sum("outside" in line for line in lines[:3]) < 3
    assert 0 < max(errors[:3]) < min(errors[3:])


def test_the_subsets_of_a_learning_curve_are_nested_and_labelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images = []
    for seed in range(40):
        atoms = bulk("LiF", "rocksalt", a=4.0)
        atoms.rattle(0.05, seed=seed)
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = -float(seed), np.full((2, 3), float(seed))
        images.append(atoms)
    (tmp_path / "frames").mkdir()
    write("frames/train.extxyz", images)
    exec(compile(blocks("strategies.md"), "strategies.md", "exec"), {})
    drawn = {
        (n, seed): [r.label.energy for r in read_records(f"frames/{n}-{seed}.extxyz", theory=Theory("x", "x"))]
        for n in (8, 16, 32)
        for seed in (1, 2, 3)
    }
    for seed in (1, 2, 3):
        assert drawn[8, seed] == drawn[16, seed][:8] == drawn[32, seed][:8]
        assert len(set(drawn[32, seed])) == 32
    assert drawn[8, 1] != drawn[8, 2]


def test_the_numbers_of_strategies_are_those_of_the_table() -> None:
    def told(row: Strategy) -> list[str]:
        numbers = (row.learning_rate, row.ema_decay, row.clip_norm, row.batch_size, row.max_epochs, row.patience)
        replayed = "" if row.replay == "none" else str(row.replay_per_epoch or "all")
        return [*(f"{number:g}" for number in numbers), replayed]

    page = (DOCS / "strategies.md").read_text()
    for name, small in STRATEGIES["small_data"].items():
        pairs = zip(told(small), told(STRATEGIES["paper"][name]), strict=True)
        cells = " | ".join(one if one == other else f"{one} / {other}" for one, other in pairs)
        assert f"| `{name}` | {cells} |\n".replace("  ", " ") in page


def test_a_dft_code_is_named_by_a_function_beside_its_file(tmp_path: Path) -> None:
    page = (DOCS / "calculators.md").read_text()
    [section] = re.findall(r"^```yaml\n(# aims\.yaml\n.*?)^```", page, re.M | re.S)
    (tmp_path / "aims.yaml").write_text(section)
    (tmp_path / "aims_pbe.py").write_text(blocks("calculators.md"))
    spec = labeller_of(read_label_file(tmp_path / "aims.yaml"), {"Li", "F"}, tmp_path)
    theory = make_labeller(spec).theory
    assert theory.method == "aims-pbe-light"
    assert set(theory.hashes) == {"aims_pbe.py"}
