"""Each stage by itself, on files, one after the other as a user would."""

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write

from curator.barriers.hops import enumerate_hops
from curator.datasets.extxyz import read_frames
from curator.datasets.frame import atoms_from_frame


def succeeded(done) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ctrl_c_says_that_nothing_is_lost(tmp_path: Path, write_campaign):
    folder = write_campaign(tmp_path / "tiny")
    command = [sys.executable, "-m", "curator", "run", str(folder)]
    # A shell that runs the tests in the background has them ignore Ctrl-C, and ignoring is inherited.
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, preexec_fn=listen, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("tiny:")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors == "curator: stopped; what has been written is kept, and the same command goes on from it\n"


def test_from_exploration_to_a_model(tmp_path: Path, curator_here):
    pool, chosen, labels, model = (tmp_path / name for name in ("pool.extxyz", "a/chosen.extxyz", "l.extxyz", "model"))
    explored = [
        "explore",
        "lif-interstitial",
        "--temperature-K",
        "700",
        "--duration-ps",
        "0.4",
        "--interval-ps",
        "0.02",
    ]
    told = json.loads(succeeded(curator_here(*explored, "--out", pool, "--json")))
    assert told["n_candidates"] == len(read(pool, index=":"))
    assert [(run["temperature_K"], run["reason"]) for run in told["trajectories"]] == [(700.0, "")]
    told = json.loads(succeeded(curator_here("select", pool, "--n", "6", "--out", chosen, "--json")))
    assert sorted(set(told["reasons"])) == ["diverse", "random"]
    assert len(read(chosen, index=":")) == 6
    write(tmp_path / "other.extxyz", bulk("NaF", "rocksalt", 4.6))  # what is labelled may hold other elements
    succeeded(curator_here("select", pool, "--n", "6", "--labelled", tmp_path / "other.extxyz", "--out", chosen))

    said = succeeded(curator_here("label", chosen, "--with", "lif-fumi-tosi", "--out", labels))
    assert "6 labels of lif-fumi-tosi@" in said
    labelled = read(labels, index=":")
    assert all("REF_energy" in atoms.info and "REF_forces" in atoms.arrays for atoms in labelled)
    # Run again, it finds every label in its journal.
    before = labels.read_bytes()
    journal = {path: path.read_bytes() for path in Path(f"{labels}.journal").rglob("*.journal")}
    succeeded(curator_here("label", chosen, "--with", "lif-fumi-tosi", "--out", labels))
    assert labels.read_bytes() == before
    assert journal == {path: path.read_bytes() for path in journal}

    tuned = ["finetune", labels, "--strategy", "naive", "--epochs", "3", "--out", model, "--no-probes", "--json"]
    told = json.loads(succeeded(curator_here(*tuned)))
    assert told["epochs"] == 3
    assert {path.name for path in model.iterdir()} == {"model.safetensors", "model.json", "model.model"}
    few = ["--n", "1", "--pressure-GPa", "50", "--trajectories", "1", "--duration-ps", "0.1"]
    told = json.loads(succeeded(curator_here("probe", model, *few, "--json")))
    errors = {name: told["forgetting"][name]["force_rmse_eV_per_A"] for name in ("foundation", "model")}
    assert 0 < errors["foundation"] < errors["model"]
    # Its only head is of the target's level of theory.
    assert told["forgetting"]["model"]["energy_rmse_eV_per_atom"] is None
    assert told["forgetting"]["foundation"]["energy_rmse_eV_per_atom"] < 0.05
    for name in ("foundation", "model"):
        assert [search["pressure_GPa"] for search in told[name]["random_search"]] == [50.0]
        assert told[name]["hot_md"]["n_survived"] == 1
        assert told[name]["equivariance"]["worst_force_eV_per_A"] < 1e-9
        assert [dimer["pair"] for dimer in told[name]["dimers"]] == ["Li-Li", "Li-F", "F-F"]


def test_barrier_of_the_shipped_model(curator_here):
    told = json.loads(
        succeeded(curator_here("barrier", "lif-interstitial", "--lattice-constant-A", "4.0905", "--json"))
    )
    (hop,) = told["hops"]
    assert hop.items() <= told.items()
    assert (hop["method"], hop["negative_modes"]) == ("symmetric", 1)
    # As its card tells, at this lattice constant.
    assert hop["barrier_eV"] == pytest.approx(0.132, abs=0.003)
    assert "4.09" in told["lattice"]
    np.testing.assert_allclose(told["cell_A"], 8.181 * np.eye(3))


def test_barriers_of_a_crystal(tmp_path: Path, curator_here):
    """Enumerated from a file, lowest first; and one of them once more, from its two end points."""
    write(tmp_path / "lif.cif", bulk("LiF", "rocksalt", a=4.0314, cubic=True))
    flags = ["--mobile", "Li", "--mechanism", "interstitialcy", "--model", "lif-fumi-tosi", "--at-most", "2"]
    told = json.loads(succeeded(curator_here("barrier", tmp_path / "lif.cif", *flags, "--json")))
    assert [hop["name"] for hop in told["hops"]] == ["interstitialcy-1", "interstitialcy-2"]
    assert [hop["multiplicity"] for hop in told["hops"]] == [4, 12]
    barriers = [hop["barrier_eV"] for hop in told["hops"]]
    assert barriers == pytest.approx([0.110, 0.309], abs=0.003)
    assert told["n_left_out"] == 1

    (first, *_) = enumerate_hops(read_frames(tmp_path / "lif.cif")[-1], "Li", "interstitialcy")
    for name, frame in (("before", first.hop.initial), ("after", first.hop.final)):
        write(tmp_path / f"{name}.extxyz", atoms_from_frame(frame))
    ends = ["--initial", tmp_path / "before.extxyz", "--final", tmp_path / "after.extxyz", "--model", "lif-fumi-tosi"]
    told = json.loads(succeeded(curator_here("barrier", ends[1], *ends[2:], "--json")))
    assert told["hops"][0]["method"] == "ci-neb"
    assert told["hops"][0]["barrier_eV"] == pytest.approx(barriers[0], abs=0.002)
    said = succeeded(curator_here("barrier", *ends)).splitlines()
    assert said[0].startswith("lif-fumi-tosi, 65 atoms in 8.063 x 8.063 x 8.063 Å")
    assert f"{told['hops'][0]['barrier_eV']:.4f}" in said[2]
    assert "1, 1.00 (ci-neb)" in said[2]


def test_diffusivity_of_wrapped_positions(tmp_path: Path, curator_here):
    """A random walk of one ion among fixed ones, with known D, written with positions wrapped into the cell."""
    rng = np.random.default_rng(0)
    n_frames, step_A = 4000, 0.5
    host = np.stack(np.meshgrid(*[np.arange(3) * 4.0] * 3), axis=-1).reshape(-1, 3)
    walk = np.cumsum(rng.normal(scale=step_A, size=(n_frames, 3)), axis=0)
    images = [Atoms("F27Li", np.vstack([host, place]), cell=np.eye(3) * 12, pbc=True) for place in walk]
    for image in images:
        image.wrap()
    write(tmp_path / "walk.extxyz", images)
    flags = ["--mobile", "Li", "--frame-interval-fs", "1000", "--temperature-K", "800", "--json"]
    told = json.loads(succeeded(curator_here("diffusion", tmp_path / "walk.extxyz", *flags)))
    assert told["status"] == "measured"
    low, high = told["ci95_A2_per_ps"]
    assert low < step_A**2 / 2 < high
    assert told["D_A2_per_ps"] == pytest.approx(step_A**2 / 2, rel=0.15)
    assert told["D_cm2_per_s"] == pytest.approx(1e-4 * told["D_A2_per_ps"])
    for walk in (told["tracer"], told["collective"]):
        low, high = walk["ci95"]
        assert low < step_A**2 / 2 < high
        assert low < walk["D_A2_per_ps"] < high
        assert walk["error_A2_per_ps"] > 0
    assert told["hops"] > 100

    for options, told in [
        (flags[:2] + flags[4:], "--frame-interval-fs: the time between"),
        ([*flags, "--temperature-K", "900"], "--temperature-K: give one for all trajectories, or one for each"),
        ([*flags, "--host", "Xx"], "'Xx' is not the symbol"),
    ]:
        failed = curator_here("diffusion", tmp_path / "walk.extxyz", *options)
        assert failed.returncode == 2
        assert told in " ".join(failed.stderr.split())
        assert "Traceback" not in failed.stderr


def test_diffusivity_of_a_model(tmp_path: Path, curator_here):
    """MD of a tenth of a picosecond: nothing to measure, but everything is run, told, and continued."""
    run = ["diffusion", "lif-interstitial", "--mobile", "Li", "--model", "mini-halides", "--replicas", "1", "--json"]
    run += ["--temperature-K", "700", "--temperature-K", "900", "--duration-ps", "0.1", "--equilibration-ps", "0"]
    done = curator_here(*run, "--out", tmp_path / "md")
    assert done.returncode == 0
    assert "lengthen the MD" in done.stderr
    told = json.loads(done.stdout)
    assert [point["temperature_K"] for point in told["diffusion"]] == [700, 900]
    assert [point["status"] for point in told["diffusion"]] == ["refused"] * 2
    assert told["diffusion"][0]["reasons"][0].startswith("too short: the longest trajectory has 0.1 ps")
    assert told["arrhenius"] is None
    assert {path.name for path in (tmp_path / "md").iterdir()} == {"T700-r0", "T900-r0"}
