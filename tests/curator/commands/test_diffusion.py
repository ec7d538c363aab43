"""The command that measures diffusivities, on walks with known ones."""

import json
from pathlib import Path
from typing import Any

import h5py
import kmc
import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from typer.testing import CliRunner

from curator.commands.diffusion import app
from curator.datasets.notice import Notice
from curator.errors import BadInput
from curator.trajectory import read_trajectory

TEMPERATURES_K = (600.0, 800.0, 1000.0)
EA_EV, PREFACTOR_PER_PS = 0.1, 8.0
LI, MD = ("--mobile", "Li"), ("--model", "lif-fumi-tosi")
EVERY = ("--frame-interval-fs", "100")


def rate_per_ps(temperature_K: float) -> float:
    return float(PREFACTOR_PER_PS * np.exp(-EA_EV / (8.617333262e-5 * temperature_K)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interstitials that hop by an Arrhenius law, in files named after their temperature, wrapped; and a replica."""
    folder = tmp_path_factory.mktemp("walks")
    rng = np.random.default_rng(4)
    for name, temperature_K in [*((f"{T:g}", T) for T in TEMPERATURES_K), ("again", 800.0)]:
        positions = kmc.collinear(rng, rate_per_ps(temperature_K), 40, 0.1)
        images = [Atoms(kmc.NUMBERS, frame % kmc.CELL[0, 0], cell=kmc.CELL, pbc=True) for frame in positions]
        write(folder / f"{name}.extxyz", images)
    return folder


def invoke(*arguments: str | Path | float) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["diffusion", *map(str, arguments)], catch_exceptions=False)
    return done.exit_code, done.stdout


def at(*temperatures_K: float) -> list[str]:
    return [word for temperature_K in temperatures_K for word in ("--temperature-K", f"{temperature_K:g}")]


def told(*arguments: str | Path | float) -> dict[str, Any]:
    status, text = invoke(*arguments, "--json")
    assert status == 0
    content: dict[str, Any] = json.loads(text)
    return content


def mS_per_cm(D_A2_per_ps: float, cell: np.ndarray, temperature_K: float) -> float:
    """Conductivity of one carrier of charge 1, q² D / (V kT), from SI."""
    V_m3 = np.linalg.det(cell) * 1e-30
    return float(10 * 1.602176634e-19**2 * 1e-8 * D_A2_per_ps / (V_m3 * 1.380649e-23 * temperature_K))


def test_activation_energy_of_trajectories(folder: Path):
    """Each file at its own temperature; equal temperatures are replicas."""
    files = [folder / f"{name}.extxyz" for name in ("600", "800", "1000", "again")]
    content = told(*files, *LI, *at(*TEMPERATURES_K, 800), *EVERY)
    assert [point["temperature_K"] for point in content["diffusion"]] == [600, 800, 1000]
    assert [point["n_trajectories"] for point in content["diffusion"]] == [1, 2, 1]
    # One guess for all.
    assert len({point["hop_length_A"] for point in content["diffusion"]}) == 1
    fit = content["arrhenius"]
    assert fit["n_temperatures"] == 3
    assert abs(fit["Ea_eV"] - EA_EV) < 3 * fit["error_eV"] < 0.2


def test_the_line_is_read_at_other_temperatures(folder: Path):
    files = [folder / f"{name}.extxyz" for name in ("600", "800", "1000")]
    flags = (*files, *LI, *at(*TEMPERATURES_K), *EVERY)
    beyond = (*flags, "--extrapolate-K", 300, "--extrapolate-K", 700, "--ion-charge", 1)
    fit = told(*beyond)["arrhenius"]
    cold, between = fit["extrapolated"]
    assert (cold["temperature_K"], between["temperature_K"]) == (300, 700)
    D = np.exp(fit["ln_D0"] - fit["Ea_eV"] / (8.617333262e-5 * 300))
    assert cold["D_A2_per_ps"] == pytest.approx(D, rel=1e-4)
    low, high = cold["ci95_A2_per_ps"]
    assert low < rate_per_ps(300) * 0.75 * kmc.A**2 / 6 < high
    assert cold["reasons"] == ["extrapolated by 300 K below the lowest"]
    assert between["reasons"] == []
    per_D = mS_per_cm(1.0, kmc.CELL, 300)
    assert cold["conductivity"]["ci95"] == pytest.approx([low * per_D, high * per_D], rel=1e-5)
    _, text = invoke(*beyond)
    assert f"300 K, by the line: D = {D:.3g} ± " in text
    assert "; extrapolated by 300 K below the lowest\n" in text
    assert told(*flags)["arrhenius"]["extrapolated"] == []


def test_what_a_person_and_a_program_read(folder: Path):
    file = folder / "1000.extxyz"
    content = told(file, *LI, *at(1000), *EVERY, "--equilibration-ps", 1)
    about = {"mobile": "Li", "host": ["F"], "n_carriers": 1, "frame_interval_fs": 100, "equilibration_ps": 1}
    assert about.items() <= content.items()
    assert content["status"] == "measured"
    low, high = content["ci95_A2_per_ps"]
    # A hop moves the summed displacement by sqrt(3)/2 a.
    assert low < rate_per_ps(1000) * 0.75 * kmc.A**2 / 6 < high
    status, text = invoke(file, *LI, *at(1000), *EVERY, "--equilibration-ps", 1)
    assert status == 0
    assert f" Å²/ps, {low:.3g} to {high:.3g} (" in text
    assert f"Haven ratio {content['haven_ratio']:.2g} ± {content['haven_ratio_error']:.2g}\n" in text
    assert "GPa" not in text
    assert text.count("± is one standard error, and the range behind it is the 95 % interval") == 1
    again = told(file, folder / "again.extxyz", *LI, *at(1000, 1000), *EVERY)
    assert again["n_trajectories"] == 2


def test_the_conductivity_is_told_where_the_charge_is_given(folder: Path):
    flags = (folder / "1000.extxyz", *LI, *at(1000), *EVERY, "--ion-charge", 1)
    content = told(*flags)
    found = content["conductivity"]
    assert found["mS_per_cm"] == pytest.approx(mS_per_cm(content["D_A2_per_ps"], kmc.CELL, 1000), rel=1e-5)
    low, high = found["ci95"]
    _, text = invoke(*flags)
    # Some thousand, whose error is some hundred.
    assert f"conductivity = {found['mS_per_cm']:.0f} ± {found['error']:.0f} mS/cm, {low:.0f} to {high:.0f}\n" in text
    assert told(*flags[:-2])["conductivity"] is None


@pytest.fixture(scope="module")
def four_ions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four lithium ions that hop among fluorines at rest, and chlorines that diffuse as well."""
    rng = np.random.default_rng(0)
    ions = kmc.hoppers(rng, 4, 0.5, 200, 0.1)
    host = np.stack(np.meshgrid(*[[5.0, 25.0]] * 3), axis=-1).reshape(-1, 3)
    astray = host + 10 + np.cumsum(rng.normal(scale=0.25, size=(len(ions), 8, 3)), axis=0)
    path = tmp_path_factory.mktemp("ions") / "ions.extxyz"
    cell = 40 * np.eye(3)
    frames = [np.vstack([a, host, b]) % 40 for a, b in zip(ions, astray, strict=True)]
    write(path, [Atoms("Li4F8Cl8", frame, cell=cell, pbc=True) for frame in frames])
    return path


def test_carriers_share_what_they_conduct_together(four_ions: Path):
    own = ("--host", "F", "--hop-length-A", kmc.HOP_LENGTH_A, "--ion-charge", 1)
    flags = (four_ions, *LI, *at(800), *EVERY, *own)
    found, together = told(*flags, "--carriers", 4), told(*flags)
    low, high = found["ci95_A2_per_ps"]
    assert low < kmc.known_D(0.5) < high
    assert (found["n_carriers"], found["hop_length_A"]) == (4, pytest.approx(kmc.HOP_LENGTH_A, abs=1e-4))
    assert found["host"] == ["F"]
    assert together["D_A2_per_ps"] == pytest.approx(4 * found["D_A2_per_ps"], rel=1e-3)
    # However it is shared.
    for one, n_carriers in ((found, 4), (together, 1)):
        conducted = n_carriers * mS_per_cm(one["D_A2_per_ps"], 40 * np.eye(3), 800)
        assert one["conductivity"]["mS_per_cm"] == pytest.approx(conducted, rel=1e-5)


def test_what_diffuses_is_no_host(four_ions: Path):
    """All but the mobile ions are, unless it is said which."""
    found = told(four_ions, *LI, *at(800), *EVERY, "--carriers", 4, "--hop-length-A", kmc.HOP_LENGTH_A)
    assert (found["host"], found["status"]) == (["F", "Cl"], "refused")
    (reason,) = found["reasons"]
    assert reason.startswith("host diffuses: D of Cl is ")
    assert reason.endswith("name only the elements that stay as the host")


@pytest.mark.parametrize("liquid", [(), ("--liquid",)])
def test_a_wrong_time_between_frames_looks_like_an_explosion(folder: Path, liquid: tuple[str, ...]):
    flags = (*LI, *at(1000), "--frame-interval-fs", 1, "--equilibration-ps", 0, *liquid)
    found = told(folder / "1000.extxyz", *flags)
    assert found["status"] == "refused"
    assert found["reasons"][0].startswith("exploded: between frames")


def test_replicas_share_atoms_and_cell(folder: Path, tmp_path: Path):
    images = read(folder / "again.extxyz", index=":")
    wider = [Atoms(a.numbers, a.positions, cell=1.01 * a.cell.array, pbc=True) for a in images]
    turned = [a[::-1] for a in images]
    for changed, complaint in ((turned, "has other atoms than"), (wider, "has another cell than")):
        write(tmp_path / "b.extxyz", changed)
        with pytest.raises(BadInput, match=rf"b\.extxyz: {complaint} .*800\.extxyz"):
            invoke(folder / "800.extxyz", tmp_path / "b.extxyz", *LI, *at(800), *EVERY)


def test_hops_that_were_not_counted_are_not_told(folder: Path):
    flags = (folder / "1000.extxyz", *LI, *at(1000), *EVERY, "--equilibration-ps", 35)
    content = told(*flags)
    assert (content["status"], content["hops"]) == ("refused", None)
    assert invoke(*flags)[1].startswith("1000 K: refused, 5 ps\ntoo short: ")


def test_the_correction_of_a_liquid_is_told(tmp_path: Path):
    rng = np.random.default_rng(0)
    walk = rng.uniform(0, 12, (40, 3)) + np.cumsum(rng.normal(scale=0.2, size=(600, 40, 3)), axis=0)
    write(tmp_path / "melt.extxyz", [Atoms("Li20F20", frame, cell=12 * np.eye(3), pbc=True) for frame in walk])
    flags = (tmp_path / "melt.extxyz", *LI, *at(1200), *EVERY, "--liquid")
    plain, corrected = told(*flags), told(*flags, "--viscosity-mPa-s", 1)
    assert (plain["host"], plain["finite_size_A2_per_ps"]) == (None, None)
    added = corrected["finite_size_A2_per_ps"]
    # Yeh and Hummer: xi kT / (6 pi eta L), here in SI.
    assert added == pytest.approx(2.837297 * 1.380649e-23 * 1200 / (6 * np.pi * 1e-3 * 12e-10) * 1e8, rel=1e-4)
    assert corrected["D_A2_per_ps"] - plain["D_A2_per_ps"] == pytest.approx(added)
    _, text = invoke(*flags, "--viscosity-mPa-s", 1)
    assert f"of it {added:.3g} Å²/ps were added for the size of the cell" in text


def wide_walk() -> list[np.ndarray]:
    """Unwrapped positions of one ion among 27 at rest, in a box of 12 Å, with frames too far apart to follow it."""
    walk = np.cumsum(np.random.default_rng(0).normal(scale=2.5, size=(400, 3)), axis=0)
    host = np.stack(np.meshgrid(*[np.arange(3) * 4.0] * 3), axis=-1).reshape(-1, 3)
    return [np.vstack([host, place]) for place in walk]


def test_positions_that_were_never_wrapped(tmp_path: Path):
    """Frames too far apart to be followed across the boundary are measured if they need not be."""
    write(tmp_path / "walk.extxyz", [Atoms("F27Li", frame, cell=12 * np.eye(3), pbc=True) for frame in wide_walk()])
    flags = (tmp_path / "walk.extxyz", *LI, *at(800), "--frame-interval-fs", 1000)
    with pytest.raises(BadInput, match=r"walk\.extxyz: atom 27 moves .* never wrapped, say --unwrapped"):
        invoke(*flags)
    low, high = told(*flags, "--unwrapped")["ci95_A2_per_ps"]
    assert low < 2.5**2 / 2 < high


def test_positions_that_are_wrapped_are_not_taken_for_unwrapped(folder: Path, tmp_path: Path):
    """Read as unwrapped, hops to the other end of the cell and back would hide the walk, or look like an explosion."""
    message = r"positions are wrapped; leave out --unwrapped, or write frames more often"
    with pytest.raises(BadInput, match=rf"800\.extxyz: {message}"):
        invoke(folder / "800.extxyz", *LI, *at(800), *EVERY, "--unwrapped")
    # About the origin, as some codes wrap.
    frames = [(frame + 6) % 12 - 6 for frame in wide_walk()]
    write(tmp_path / "wide.extxyz", [Atoms("F27Li", frame, cell=12 * np.eye(3), pbc=True) for frame in frames])
    flags = (tmp_path / "wide.extxyz", *LI, *at(800), "--frame-interval-fs", 1000)
    with pytest.raises(BadInput, match=message):
        invoke(*flags, "--unwrapped")
    with pytest.raises(BadInput, match=r"atom 27 moves .* store frames more often") as error:
        invoke(*flags)
    assert "--unwrapped" not in str(error.value)


def write_timed(path: Path, interval_ps: float, seed: int) -> Path:
    """A walk in an H5MD file that states the time of each frame."""
    positions = kmc.collinear(np.random.default_rng(seed), 1.0, 20, interval_ps)
    with h5py.File(path, "w") as h5:
        h5["particles/all/position/value"] = positions
        h5["particles/all/position/time"] = interval_ps * np.arange(len(positions))
        h5["particles/all/position/time"].attrs["unit"] = "ps"
        h5["particles/all/species"] = kmc.NUMBERS
        h5["particles/all/box/edges"] = kmc.CELL
        h5["particles/all/box"].attrs["boundary"] = [b"periodic"] * 3
    return path


def test_the_file_knows_its_time(folder: Path, tmp_path: Path):
    file = write_timed(tmp_path / "run.h5", 0.1, 4)
    assert told(file, *LI, *at(800))["frame_interval_fs"] == pytest.approx(100)
    with pytest.raises(BadInput, match=r"run\.h5 states 100 fs between its frames, not 200 fs"):
        invoke(file, *LI, *at(800), "--frame-interval-fs", 200)
    with pytest.raises(BadInput, match="--frame-interval-fs: the time between the frames of a trajectory must be"):
        invoke(folder / "800.extxyz", *LI, *at(800))


def test_files_that_state_different_times_are_named(tmp_path: Path):
    one, two = write_timed(tmp_path / "one.h5", 0.1, 1), write_timed(tmp_path / "two.h5", 0.2, 2)
    with pytest.raises(BadInput, match=r"two\.h5: states 200 fs between its frames, and .*one\.h5 100 fs; measure"):
        invoke(one, two, *LI, *at(800, 900))


def test_replicas_are_periodic_alike(folder: Path, tmp_path: Path):
    images = read(folder / "again.extxyz", ":")
    for atoms in images:
        atoms.pbc = False
    write(tmp_path / "free.extxyz", images)
    with pytest.raises(BadInput, match=r"free\.extxyz: is periodic in other directions than .*800\.extxyz"):
        invoke(folder / "800.extxyz", tmp_path / "free.extxyz", *LI, *at(800), *EVERY)


def test_the_same_trajectory_counts_once(folder: Path, tmp_path: Path):
    copy = tmp_path / "copy.extxyz"
    copy.write_bytes((folder / "800.extxyz").read_bytes())
    for other in (folder / "800.extxyz", copy):
        with pytest.raises(BadInput, match=rf"{other.name}: holds the same frames as .*800\.extxyz"):
            invoke(folder / "800.extxyz", other, *LI, *at(800), *EVERY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mobile", "Na"], r"--mobile Na: there is no Na in .*800\.extxyz, which holds Li, F"),
        (["--mobile", "Xx"], "--mobile: 'Xx' is not the symbol"),
        ([*LI, "--host", "Cl"], r"--host Cl: there is no Cl in .*800\.extxyz"),
        ([*LI, "--host", "Li"], "--host Li: is the mobile element"),
        ([*LI, "--liquid", "--host", "F"], "--host: a liquid has neither"),
        ([*LI, "--liquid", "--carriers", 1], "--carriers: a liquid has neither"),
        ([*LI, "--liquid", "--ion-charge", 1], "--ion-charge: takes the collective diffusivity"),
        ([*LI, "--extrapolate-K", 300], "--extrapolate-K: takes two temperatures or more"),
        ([*LI, "--ion-charge", 0], "--ion-charge: must not be zero"),
        ([*LI, "--ion-charge", "nan"], "--ion-charge: must not be zero"),
        ([*LI, "--viscosity-mPa-s", 1], "--viscosity-mPa-s: goes with --liquid"),
        ([*LI, "--liquid", "--viscosity-mPa-s", 1, *at(900)], "--viscosity-mPa-s: one viscosity is given for several"),
        ([*LI, "--elements", "Li,F"], "names its elements by itself; leave out --elements"),
        ([*LI, "--out", "md"], "--out: goes with --model"),
        ([*LI, "--replicas", 2], "--replicas: goes with --model"),
        ([*LI, "--duration-ps", 20], "--duration-ps: goes with --model"),
        ([*LI, "--timestep-fs", 1], "--timestep-fs: goes with --model"),
        ([*LI, "--equilibration-ps", "inf"], "--equilibration-ps: must be zero or more and finite; got inf"),
        ([*LI, "--hop-length-A", "inf"], "--hop-length-A: must be positive and finite; got inf"),
        ([*LI, *at(900)], "--temperature-K: give one for all trajectories, or one for each; got 2 for 1"),
        ([*LI, "--temperature-K", "nan"], "--temperature-K: must be positive and finite; got nan"),
    ],
)
def test_what_cannot_be_is_refused(folder: Path, arguments: list[str | float], message: str):
    with pytest.raises(BadInput, match=message):
        invoke(folder / "800.extxyz", *EVERY, *at(800), *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mobile", "Na"], "--mobile Na: there is no Na in lif-interstitial, which holds Li, F"),
        ([*LI, "--host", "Cl"], "--host Cl: there is no Cl in lif-interstitial"),
        ([*LI, "--duration-ps", -1.5], r"--duration-ps: must be positive and finite; got -1\.5"),
        ([*LI, *EVERY], "--frame-interval-fs: is for trajectories"),
        ([*LI, "--unwrapped"], "--unwrapped: is for trajectories"),
        ([*LI, *at(700)], "--temperature-K: one is given twice"),
    ],
)
def test_md_that_would_be_in_vain_is_not_run(
    arguments: list[str | float], message: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("curator.md.run_md", lambda *_args, **_options: pytest.fail("it was run"))
    with pytest.raises(BadInput, match=message):
        invoke("lif-interstitial", *MD, *at(700), *arguments)


def test_short_md_that_is_kept_can_be_lengthened(tmp_path: Path):
    """Nothing to measure yet, as a notice says."""
    short = ("--duration-ps", 0.1, "--equilibration-ps", 0, "--replicas", 1, "--out", tmp_path)
    with pytest.warns(Notice, match="lengthen the MD"):
        status, text = invoke("lif-interstitial", *MD, *LI, *at(700), *short, "--json")
    assert status == 0
    (point,) = json.loads(text)["diffusion"]
    assert (point["status"], point["frame_interval_fs"]) == ("refused", 100)
    with pytest.warns(Notice, match="lengthen the MD"):
        _, text = invoke("lif-interstitial", *MD, *LI, *at(700), *short)
    assert text.startswith(f"700 K: refused, 0 ps, at {point['pressure_GPa']:.1f} GPa\n")
    assert (tmp_path / "T700-r0" / "header.json").exists()


def test_a_temperature_that_joins_leaves_the_md_of_the_others(tmp_path: Path):
    short = ("--duration-ps", 0.1, "--equilibration-ps", 0, "--replicas", 1, "--out", tmp_path)

    def run(*arguments: str | float) -> None:
        with pytest.warns(Notice, match="lengthen the MD"):
            assert invoke("lif-interstitial", *MD, *LI, *short, *arguments)[0] == 0

    def header(name: str) -> Path:
        return tmp_path / name / "header.json"

    def seed(name: str) -> list[int]:
        found: list[int] = json.loads(header(name).read_text())["seed"]
        return found

    run(*at(700))
    run(*at(500, 700))
    assert (seed("T500-r0"), seed("T700-r0")) == ([0, 500_000, 0], [0, 700_000, 0])
    # Of a folder whose seeds were made another way, what is there is continued.
    content = json.loads(header("T700-r0").read_text())
    header("T700-r0").write_text(json.dumps(content | {"seed": [0, 0, 0]}))
    run(*at(500, 700), "--duration-ps", 0.2)
    assert seed("T700-r0") == [0, 0, 0]
    assert len(read_trajectory(tmp_path / "T700-r0")) == 3
    other = pytest.raises(BadInput, match=r"T500-r0 holds a trajectory with another seed \(\[0, 500000, 0\] there")
    with pytest.warns(Notice, match="lengthen the MD"), other:
        invoke("lif-interstitial", *MD, *LI, *short, *at(500), "--seed", 1)
