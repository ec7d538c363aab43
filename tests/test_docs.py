"""The Python of the documentation runs as it stands there."""

import re
from pathlib import Path

import pytest

from curator.backends.labellers import make_labeller
from curator.labelling import labeller_of, read_label_file

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


def test_a_dft_code_is_named_by_a_function_beside_its_file(tmp_path: Path) -> None:
    page = (DOCS / "calculators.md").read_text()
    [section] = re.findall(r"^```yaml\n(# aims\.yaml\n.*?)^```", page, re.M | re.S)
    (tmp_path / "aims.yaml").write_text(section)
    (tmp_path / "aims_pbe.py").write_text(blocks("calculators.md"))
    spec = labeller_of(read_label_file(tmp_path / "aims.yaml"), {"Li", "F"}, tmp_path)
    theory = make_labeller(spec).theory
    assert theory.method == "aims-pbe-light"
    assert set(theory.hashes) == {"aims_pbe.py"}
