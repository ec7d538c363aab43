"""A potential that is named by its calculator labels, explores and is measured, with the numbers it has by its name."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase.io import read, write

from curator.datasets.frame import atoms_from_frame
from curator.datasets.sources import build_seed


@pytest.fixture
def fumi_tosi(tmp_path: Path) -> Path:
    """The potential that ships as lif-fumi-tosi, as any other might be named."""
    file = tmp_path / "fumi-tosi.yaml"
    calculator = "curator.backends.classical:FumiTosiLiF"
    file.write_text(f"kind: classical\ncode: ase\ncalculator: {calculator}\nmethod: mine\n")
    return file


def test_it_does_what_it_does_by_its_name(fumi_tosi: Path, curator_here: Callable, tmp_path: Path) -> None:
    names = {"by name": "lif-fumi-tosi", "by calculator": str(fumi_tosi)}

    def both(command: list[str], *options: str, out: str) -> list[Path]:
        files = []
        for what, name in names.items():
            done = curator_here(*command, name, *options, "--out", tmp_path / what / out)
            assert done.returncode == 0, done.stderr
            files.append(tmp_path / what / out)
        return files

    run = ["--duration-ps", "0.4", "--interval-ps", "0.05"]
    pools = both(["explore", "lif-interstitial", "--model"], *run, out="pool.extxyz")
    assert pools[0].read_text() == pools[1].read_text()
    mine, theirs = (read(file, index=":") for file in both(["label", str(pools[0]), "--with"], out="labels.extxyz"))
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(a.arrays["REF_forces"], b.arrays["REF_forces"])
        assert a.info["REF_energy"] == b.info["REF_energy"]


def test_its_barrier_and_its_diffusion_are_measured(fumi_tosi: Path, curator_here: Callable, tmp_path: Path) -> None:
    barriers, diffusivities = [], []
    for name in ("lif-fumi-tosi", fumi_tosi):
        done = curator_here("barrier", "lif-interstitial", "--supercell", "2", "2", "1", "--model", name, "--json")
        assert done.stdout, done.stderr
        barriers.append(json.loads(done.stdout)["energies_eV"])
        md = ["--temperature-K", "900", "--duration-ps", "0.3", "--equilibration-ps", "0.1", "--replicas", "2"]
        done = curator_here("diffusion", "lif-interstitial", "--mobile", "Li", "--model", name, *md, "--json")
        assert done.returncode == 0, done.stderr
        diffusivities.append(json.loads(done.stdout))
    assert barriers[0] == pytest.approx(barriers[1], abs=1e-9)
    assert diffusivities[0] == diffusivities[1]
    (point,) = diffusivities[0]["diffusion"]
    assert (point["n_trajectories"], point["time_ps"]) == (2, pytest.approx(2 * 0.3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("python: env/bin/python", "there is no interpreter"),
        ("calculator: curator.backends.classical:NaCl", "no attribute 'NaCl'"),
        ("parameters: {sigma: 1}\npython: [1]", "label.python"),
    ],
)
def test_what_is_wrong_with_it_is_told_in_a_line(
    fumi_tosi: Path, curator_here: Callable, tmp_path: Path, change: str, message: str
) -> None:
    key = change.split(":")[0]
    lines = [line for line in fumi_tosi.read_text().splitlines() if not line.startswith(f"{key}:")]
    fumi_tosi.write_text("\n".join([*lines, change]))
    write(tmp_path / "frame.extxyz", atoms_from_frame(build_seed("lif-interstitial").frame))
    for command in (["barrier", "lif-interstitial", "--model"], ["label", str(tmp_path / "frame.extxyz"), "--with"]):
        done = curator_here(*command, fumi_tosi)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_one_that_dies_in_the_middle_of_a_run_is_told_in_a_line(
    curator_here: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mortal.py").write_text(
        "import os\n"
        "from curator.backends.classical import FumiTosiLiF\n"
        "class Mortal(FumiTosiLiF):\n"
        "    n_left = 20\n"
        "    def calculate(self, *args):\n"
        "        self.n_left -= 1\n"
        "        return super().calculate(*args) if self.n_left else os.abort()\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    (tmp_path / "mortal.yaml").write_text("kind: classical\ncode: ase\ncalculator: mortal:Mortal\nmethod: mortal\n")
    done = curator_here("explore", "lif-interstitial", "--model", tmp_path / "mortal.yaml")
    assert (done.returncode, done.stderr.strip()) == (1, "curator: crash: its process ended by SIGABRT")
