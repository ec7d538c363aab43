"""Real DFT labels from the command line: frames that cannot be labelled, and calculations that are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from ase import Atoms
from ase.build import bulk
from ase.io import read, write

from curator.datasets.journal import Journal
from curator.datasets.label import Record
from curator.datasets.store import Store

QUICK = {"kind": "dft", "code": "espresso", "preset": "pbe-quick", "cutoff_Ry": 40, "kpoint_spacing_per_A": 1.2}


@pytest.fixture
def label_file(pseudopotentials: Path, tmp_path: Path) -> Path:
    """Section ``label`` of a quick DFT set-up, in a file of its own."""
    path = tmp_path / "pbe.yaml"
    path.write_text(yaml.safe_dump(QUICK | {"pseudopotentials": str(pseudopotentials)}))
    return path


def rattled(n: int, cubic: bool = False) -> list[Atoms]:
    frames = []
    for seed in range(n):
        atoms = bulk("LiF", "rocksalt", 4.03, cubic=cubic)
        atoms.rattle(0.1, seed=seed)
        frames.append(atoms)
    return frames


def test_ten_frames_of_which_two_fail_and_one_is_impossible(curator_here, label_file: Path, tmp_path: Path):
    frames = rattled(9)
    close = bulk("LiF", "rocksalt", 4.03)
    close.positions[1] = close.positions[0] + [0.2, 0.0, 0.0]
    frames.insert(4, close)
    write(tmp_path / "ten.extxyz", frames)
    # Frame 2 converges if it is given more steps; frame 7 is never given enough.
    first, second = (f"{frames[i].positions[1][0]:.8f}" for i in (2, 7))
    program = tmp_path / "pw-short.sh"
    short = "sed -i 's/electron_maxstep.*/electron_maxstep = 2/' pw.in"
    program.write_text(
        f"#!/bin/bash\nif grep -q '{first}' pw.in && grep -q 'maxstep *= 100' pw.in; then {short}; fi\n"
        f"if grep -q '{second}' pw.in; then {short}; fi\nexec pw.x \"$@\"\n"
    )
    program.chmod(0o755)
    label_file.write_text(label_file.read_text() + f"command: {program}\n")
    out = tmp_path / "labelled.extxyz"
    done = curator_here("label", tmp_path / "ten.extxyz", "--with", label_file, "--out", out, "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["n_frames"], told["n_labels"], told["n_remedied"]) == (10, 8, 1)
    assert [(each["idx"], each["reason"]) for each in told["failed"]] == [(4, "geometry"), (7, "scf")]
    labelled = read(out, index=":")
    assert all(np.isfinite(atoms.arrays["REF_forces"]).all() for atoms in labelled)
    helped = [c.label.remedy for c in Journal(tmp_path / "labelled.extxyz.journal").read() if isinstance(c, Record)]
    assert Counter(helped) == {"": 7, "more steps, mixing 0.2": 1}

    again = curator_here("label", tmp_path / "ten.extxyz", "--with", label_file, "--out", out)
    assert again.returncode == 1
    assert "2 of 10 failed: 1 geometry, 1 scf; --retry tries them again" in again.stdout

    label_file.write_text("\n".join(line for line in label_file.read_text().splitlines() if "command" not in line))
    retried = curator_here("label", tmp_path / "ten.extxyz", "--with", label_file, "--out", out, "--retry", "--json")
    assert retried.returncode == 1
    assert json.loads(retried.stdout)["n_labels"] == 9
    assert [each["reason"] for each in json.loads(retried.stdout)["failed"]] == ["geometry"]


def test_nothing_outlives_a_killed_driver_and_nothing_is_bought_twice(label_file: Path, tmp_path: Path):
    write(tmp_path / "frames.extxyz", rattled(3, cubic=True))
    command = [sys.executable, "-W", "ignore", "-m", "curator", "label", "frames.extxyz", "--with", str(label_file)]
    journal = tmp_path / "labelled.extxyz.journal"
    process = subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"})
    wait_for(lambda: journal.exists() and len(Journal(journal).published) == 1 and programs_in(tmp_path), 300)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not programs_in(tmp_path), 10)
    before = {c.frame.hash: c.label.energy for c in Journal(journal).read() if isinstance(c, Record)}
    assert len(before) in (1, 2)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    after = [(c.frame.hash, c.label.energy) for c in Journal(journal).read() if isinstance(c, Record)]
    assert len(after) == 3
    assert before.items() <= dict(after).items()


def test_a_killed_worker_takes_its_program_along_and_no_label(label_file: Path, tmp_path: Path):
    write(tmp_path / "frames.extxyz", rattled(4, cubic=True))
    arguments = ["label", "frames.extxyz", "--with", str(label_file), "--workers", "2"]
    command = [sys.executable, "-W", "ignore", "-m", "curator", *arguments]
    journal = tmp_path / "labelled.extxyz.journal"
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=said, stderr=said)
    wait_for(lambda: journal.exists() and Journal(journal).published and programs_in(tmp_path), 300)
    before = {c.frame.hash: c.label.energy for c in Journal(journal).read() if isinstance(c, Record)}
    program, worker = None, 0
    while program is None:  # one may end while it is asked
        with suppress(IndexError, psutil.NoSuchProcess):
            program = programs_in(tmp_path)[0]
            worker = int(program.environ()["CURATOR_WORKER"])
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not program.is_running() or program.status() == psutil.STATUS_ZOMBIE, 10)
    status = process.wait(timeout=300)
    if status:  # the frame in the worker's hands is told, and asked for again
        assert status == 1, (tmp_path / "said").read_text()
        assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    after = [(c.frame.hash, c.label.energy) for c in Journal(journal).read() if isinstance(c, Record)]
    assert len(after) == 4
    assert before.items() <= dict(after).items()
    assert not programs_in(tmp_path)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"pseudopotentials": "nowhere"}, ["pseudopotentials", "nowhere", "pseudo-dojo.org"]),
        ({"input_data": {"electrons": {"scf_must_converge": False}}}, ["scf_must_converge", "is no label"]),
        ({"input_data": {"electrons": {"mixing_bta": 0.2}}}, ["mixing_bta", "did you mean mixing_beta"]),
        ({"cutoff_Ry": -1}, ["label.cutoff_Ry", "greater than 0"]),
        ({"cutof_Ry": 40}, ["cutof_Ry", "did you mean cutoff_Ry"]),
        ({"model": "chgnet:0.3.0"}, ["model means nothing to espresso"]),
        ({"command": "pw-nowhere.x"}, ["no program pw-nowhere.x", "label.command"]),
        ({"also": "chgnet:0.9"}, ["label.also: no CHGNet model '0.9'", "r2scan"]),
        ({"kind": "pseudolabel"}, ["label: ", "means nothing to pseudolabel"]),
        ({"command": "mpirun -np 4"}, ["label.command", "mpirun -np 4 pw.x"]),
    ],
)
def test_bad_input_names_the_key_and_the_remedy(curator_here, label_file: Path, tmp_path: Path, keys, said):
    write(tmp_path / "one.extxyz", rattled(1))
    label_file.write_text(yaml.safe_dump(yaml.safe_load(label_file.read_text()) | keys))
    done = curator_here("label", tmp_path / "one.extxyz", "--with", label_file, "--out", tmp_path / "out.extxyz")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert all(word in done.stderr for word in said), done.stderr


CAMPAIGN = """
name: real
seed: 2
system: {structure: lif, supercell: [1, 1, 1], cell: given, mobile: Li}
explore: {temperatures_K: [700, 900], replicas: 1, duration_ps: 0.3, interval_ps: 0.02}
select: {labels_per_round: 3, random_share: 0, test_frames: 2, contact_labels: 0}
learn: {strategy: multihead_replay, epochs: 24, replay_frames: 8, members: 1}
measure: {exam: false, probes: null, diffusion: {temperatures_K: [900], duration_ps: 0.4, equilibration_ps: 0.1}}
stop: {max_rounds: 1, max_labels: 8}
run: {executor: local, workers: 2}
"""


def test_campaign_with_real_labels_ends_with_a_verdict(curator, label_file: Path, tmp_path: Path):
    label = yaml.safe_load(label_file.read_text()) | {"also": "mini-halides"}
    (tmp_path / "real.yaml").write_text(CAMPAIGN + yaml.safe_dump({"label": label}))
    done = curator("run", tmp_path / "real.yaml")
    assert done.returncode == 3, done.stderr
    status = json.loads(curator("status", tmp_path / "real.yaml", "--json").stdout)
    assert status["verdict"] in ("not_yet", "undetermined")
    assert status["theory"].startswith("pbe@")
    assert (status["n_labels_total"], status["failed_labels"]) == (5, {})
    error = status["rounds"][0]["force_rmse_eV_per_A"]
    assert error["model"] < error["foundation"]
    with Store(tmp_path / "real" / "frames.h5", "r") as store:
        theories = Counter(record.label.theory for record in store.records())
    assert sorted(theories.values()) == [5, 5]
    assert (tmp_path / "real" / "report.html").exists()
    assert list((tmp_path / "real" / "calculations").iterdir()) == []


def programs_in(folder: Path) -> list[psutil.Process]:
    """Programs that run in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "pw.x" and str(folder) in process.cwd():
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def wait_for(condition, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
