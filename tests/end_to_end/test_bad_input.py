"""Bad input ends in one to three clear lines and exit status 2, never in a traceback."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write


def check_refused(done: subprocess.CompletedProcess[str], *words: str, status: int = 2) -> None:
    assert done.returncode == status, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert 1 <= len(lines) <= 3, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("explore", "{temperature_K: [700]}", ("explore.temperature_K", "temperatures_K")),
        ("explore", "{temperatures_K: [-5]}", ("explore.temperatures_K", "-5")),
        ("system", "{structure: lif-interstitial, mobile: Na}", ("system.mobile", "Na", "F, Li")),
        ("system", "{structure: lif-sphere}", ("system.structure", "lif-sphere", "lif-interstitial")),
        ("system", "{structure: nowhere.cif, mobile: Li}", ("system.structure", "nowhere.cif")),
        ("foundation", "missing/model", ("foundation", "missing/model")),
        ("foundation", "mini-halide", ("foundation", "mini-halides")),
        ("label", "{model: chgnet:0.9}", ("label.model", "0.9", "r2scan")),
        ("learn", "{strategy: multihed}", ("learn.strategy", "multihead_replay")),
        ("seed", "many", ("seed", "many")),
    ],
)
def test_campaign_file(tmp_path: Path, curator_here, write_campaign, old: str, new: str, words: tuple[str, ...]):
    folder = write_campaign(tmp_path / "bad", **{old: new})
    check_refused(curator_here("run", folder), *words)
    assert sorted(path.name for path in folder.iterdir() if path.name != "driver.lock") == ["campaign.yaml"]


@pytest.mark.parametrize("executor", ["serial", "local"])
def test_a_program_that_is_missing(tmp_path: Path, curator_here, write_campaign, executor: str):
    for symbol, valence in (("Li", 3), ("F", 7)):
        header = f'<PP_HEADER element="{symbol}" z_valence="{valence}" functional="PBE"/>'
        (tmp_path / f"{symbol}.upf").write_text(f'<UPF version="2.0.1">\n{header}\n</UPF>\n')
    folder = write_campaign(
        tmp_path,
        executor=executor,
        system="{structure: lif-interstitial, charge: 1}",
        label="{kind: dft, pseudopotentials: ., command: pw-nowhere.x}",
    )
    check_refused(curator_here("run", folder), "no program pw-nowhere.x", "label.command")
    # Nothing waits in quarantine: once the program is there, the campaign goes on.
    assert list((tmp_path / "journal").glob("*.journal")) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("empty", "system.structure")),
        ("system: [", ("line 1", "YAML")),
        ("- a\n", ("list",)),
        ("\x00\x01", ("YAML",)),
    ],
)
def test_file_that_is_no_campaign(tmp_path: Path, curator_here, text: str, words: tuple[str, ...]):
    (tmp_path / "campaign.yaml").write_text(text)
    check_refused(curator_here("check", tmp_path), *words)


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n garbage", b"not a structure"])
def test_structure_file_that_cannot_be_read(tmp_path: Path, curator_here, write_campaign, content: bytes):
    (tmp_path / "bad.extxyz").write_bytes(content)
    folder = write_campaign(tmp_path, system="{structure: bad.extxyz, mobile: Li}")
    check_refused(curator_here("run", folder), "system.structure", "bad.extxyz")


def test_structure_without_the_mobile_species(tmp_path: Path, curator_here, write_campaign):
    write(tmp_path / "nacl.cif", bulk("NaCl", "rocksalt", a=5.64, cubic=True))
    folder = write_campaign(tmp_path, system="{structure: nacl.cif, mobile: Li}")
    check_refused(curator_here("run", folder), "system.mobile", "Li", "Cl, Na")


def test_element_that_the_foundation_does_not_know(tmp_path: Path, curator_here, write_campaign):
    write(tmp_path / "mgo.cif", bulk("MgO", "rocksalt", a=4.21, cubic=True))
    folder = write_campaign(
        tmp_path, system="{structure: mgo.cif, mobile: Mg, cell: given}", measure="{barrier: false}"
    )
    check_refused(curator_here("check", folder), "foundation", "Mg")


def test_labels_that_are_not_numbers(tmp_path: Path, curator_here):
    atoms = bulk("LiF", "rocksalt", a=4.03, cubic=True)
    atoms.info["REF_energy"] = -10.0
    forces = np.zeros((len(atoms), 3))
    forces[3, 1] = np.nan
    atoms.arrays["REF_forces"] = forces
    write(tmp_path / "labels.extxyz", atoms, format="extxyz")
    check_refused(
        curator_here("finetune", tmp_path / "labels.extxyz", "--out", tmp_path / "model"), "labels.extxyz", "atom 3"
    )
    assert not (tmp_path / "model").exists()


def test_calculator_energies_are_not_taken_for_labels(tmp_path: Path, shared_data: Path, curator_here):
    done = curator_here("finetune", shared_data / "alkali_mpf" / "frames.extxyz", "--out", tmp_path / "model")
    check_refused(done, "--use-calculator")


def test_frames_without_labels(tmp_path: Path, curator_here):
    atoms = bulk("LiF", "rocksalt", a=4.03, cubic=True)
    atoms.info["reason"] = "diverse"
    write(tmp_path / "selected.extxyz", atoms, format="extxyz")
    done = curator_here("finetune", tmp_path / "selected.extxyz", "--out", tmp_path / "model")
    check_refused(done, "no 'REF_energy'; found 'reason'", "--energy-key", "curator label")


def test_exploring_too_short_for_a_candidate(tmp_path: Path, curator_here):
    done = curator_here("explore", "lif-interstitial", "--duration-ps", "0.1", "--out", tmp_path / "pool.extxyz")
    check_refused(done, "0.1 ps yields no candidate", "0.2 ps are left out", "a longer duration")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ("structure", "--initial")),
        (["lif"], ("lif", "--mechanism")),
        (["lif-vacancy", "--mechanism", "vacancy"], ("its defect already", "lif")),
        (["lif", "--mechanism", "exchange"], ("--mechanism", "exchange", "interstitialcy")),
        (["lif", "--mechanism", "vacancy", "--mobile", "Xy"], ("--mobile", "Xy")),
        (["lif", "--mechanism", "vacancy", "--supercell", "1", "1", "1"], ("4.03 Å wide", "2.85 Å")),
        (["licl-vacancy"], ("lif-fumi-tosi", "Cl")),
        (["lif-vacancy", "--mobile", "Li"], ("--mobile", "goes with --mechanism")),
        (["lif-vacancy", "--at-most", "2"], ("--at-most", "goes with --mechanism")),
        (["--initial", "a.extxyz", "--final", "b.extxyz", "--at-most", "2"], ("--at-most", "leave it out")),
        (["lif-vacancy", "--supercell", "1", "1", "1"], ("(1, 1, 1)", "too small")),
        (["lif", "--initial", "a.extxyz", "--final", "b.extxyz"], ("structure", "leave it out")),
        (["--initial", "a.extxyz"], ("--final", "both")),
        (["--initial", "a.extxyz", "--final", "b.extxyz"], ("a.extxyz",)),
    ],
)
def test_barrier_of_nothing(curator_here, arguments: list[str], words: tuple[str, ...]):
    check_refused(curator_here("barrier", *arguments, "--model", "lif-fumi-tosi"), *words)


def test_barrier_of_one_state(tmp_path: Path, curator_here):
    for name in ("before", "after"):
        write(tmp_path / f"{name}.extxyz", bulk("LiF", "rocksalt", a=4.03, cubic=True))
    ends = ["--initial", tmp_path / "before.extxyz", "--final", tmp_path / "after.extxyz"]
    check_refused(curator_here("barrier", *ends, "--model", "lif-fumi-tosi"), "after.extxyz", "same state as", "0.00 Å")
    done = curator_here("barrier", ends[1], "--mechanism", "vacancy", "--model", "lif-fumi-tosi")
    check_refused(done, "--mobile: is missing")


def test_unknown_command_and_option(curator_here):
    check_refused(curator_here("rum"), "rum")
    check_refused(curator_here("run", "--fast"), "--fast")


def test_folder_without_a_campaign(tmp_path: Path, curator_here):
    for command in ("run", "check", "status", "report", "export"):
        check_refused(curator_here(command, tmp_path), "curator init")


@pytest.fixture
def small_disk(tmp_path: Path):
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.timeout(1200)
def test_disk_that_fills_up(small_disk: Path, curator, write_campaign):
    folder = write_campaign(small_disk / "tiny")
    done = curator("run", folder)
    check_refused(done, "disk is full", status=1)
    # What was being written is gone, what was finished is whole: with more room, the campaign goes on.
    assert not [path for path in folder.rglob("*") if path.name.startswith(".") and path.is_file()]
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    done = curator("run", folder)
    assert done.returncode in (0, 3), done.stderr
