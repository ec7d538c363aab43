"""Data sets on the command line: imported, labelled anew at another level of theory, chosen from, exported, learnt."""

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from vasp_files import PBE_520, walk, write_vasprun

from curator.dataset import read_dataset
from curator.datasets.extxyz import read_frames, read_own_records
from curator.labelled import labelled_records

OUTPUTS = Path(__file__).parents[1] / "datasets" / "outputs"


@pytest.fixture
def data(tmp_path: Path, curator_here) -> Path:
    """Data set of two runs of six frames, of which one validates, whose labels are those of the classical potential."""
    paths = []
    for seed in range(2):
        paths.append(tmp_path / f"run{seed}" / "vasprun.xml")
        paths[-1].parent.mkdir()
        write_vasprun(paths[-1], walk(6, seed))
    flags = ["--into", tmp_path / "data", "--theory", "pbe", "--valid-share", "0.5"]
    done = curator_here("import", *paths, *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("12 labels of pbe@")
    return tmp_path / "data"


def test_import(tmp_path: Path, curator_here):
    into = ["--into", tmp_path / "data", "--theory", "pbe40"]
    done = curator_here("import", *sorted(OUTPUTS.glob("*.pwo")), *into, "--json")
    told = json.loads(done.stdout)
    assert told["theory"].startswith("pbe40@")
    assert (told["n_imported"], told["n_left_out"]) == (3, {"unconverged": 2})
    assert [file["n_imported"] for file in told["files"]] == [3, 0, 0]
    assert told["settings"]["cutoff_Ry"] == 40.0
    done = curator_here("import", OUTPUTS / "hf.cp2k", *into)
    assert done.returncode == 0
    assert "note: the data set also holds pbe40@" in done.stdout
    assert "code: espresso and cp2k" in done.stdout
    assert "3 of 4 to train, 1 unconverged" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.xml", "--theory", "pbe"], "missing.xml: no such file"),
        ([OUTPUTS / "lif_md.pwo"], "--theory"),
        ([OUTPUTS / "lif_md.pwo", "--theory", "pbe", "--format", "vasp"], "--format: no vasp; there are vasprun"),
        ([OUTPUTS / "lif_md.pwo", "--theory", "pbe", "--format", "cp2k"], "not readable as cp2k"),
        ([OUTPUTS / "lif_md.pwo", "--theory", "pbe", "--split", "exam"], "--split: no exam"),
        ([OUTPUTS / "lif_md.pwo", "--theory", "pbe", "--test-share", "0.7", "--valid-share", "0.7"], "more than all"),
        ([OUTPUTS / "lif_md.pwo", OUTPUTS / "hf.cp2k", "--theory", "pbe"], "not one level of theory"),
        ([OUTPUTS, "--theory", "pbe"], "no DeePMD data"),
    ],
)
def test_refusals(tmp_path: Path, curator_here, arguments: list[str | Path], words: str):
    done = curator_here("import", *arguments, "--into", tmp_path / "data")
    assert done.returncode == 2, done.stdout
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("data/journal/*.journal"))


def test_labels_of_a_second_theory(tmp_path: Path, data: Path, curator_here):
    """The same potential again, under the name of another: labels agree, to the digits that VASP's file has."""
    done = curator_here("label", data, "--with", "lif-fumi-tosi", "--into", data)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("12 labels of lif-fumi-tosi@")
    assert not (tmp_path / "labelled.extxyz").exists()
    told = json.loads(curator_here("export", data, "--list", "--json").stdout)
    assert [item["n_labels"] for item in told["theories"]] == [12, 12]
    assert told["theories"][0]["settings"] == PBE_520
    (pair,) = told["compared"]
    assert pair["n_frames"] == 12
    assert pair["force_rms_eV_per_A"] < 1e-7
    assert pair["energy_rms_eV_per_atom"] < 1e-7
    lines = curator_here("export", data, "--list").stdout.splitlines()
    assert lines[0].split() == ["12", told["theories"][0]["theory"], "vasp"]
    # Both labels of a frame share its group and split.
    records = read_dataset(data).records
    assert len(records) == 24
    assert len({(r.frame.hash, r.provenance.group, r.provenance.split) for r in records}) == 12

    for command in (
        ["export", data, "--out", tmp_path / "export"],
        ["finetune", data, "--out", tmp_path / "model"],
        ["select", data, "--labelled", data, "--out", tmp_path / "chosen.extxyz"],
    ):
        done = curator_here(*command)
        assert done.returncode == 2
        assert "choose one with --theory: pbe@" in done.stderr
        assert "(12 labels); lif-fumi-tosi@" in done.stderr
    done = curator_here("export", data, "--theory", "pbe", "--out", tmp_path / "export")
    assert done.returncode == 0, done.stderr
    written = {split: read_own_records(tmp_path / "export" / f"{split}.extxyz") for split in ("train", "valid")}
    assert {split: len(records) for split, records in written.items()} == {"train": 6, "valid": 6}
    assert {record.label.theory for part in written.values() for record in part} == {told["theories"][0]["theory"]}


def test_choosing_what_has_no_label_of_a_theory_yet(tmp_path: Path, data: Path, curator_here):
    frames = [record.frame for record in read_dataset(data).records]
    ase.io.write(tmp_path / "some.extxyz", walk(6)[:4])
    done = curator_here("label", tmp_path / "some.extxyz", "--with", "lif-fumi-tosi", "--into", data)
    assert done.returncode == 0, done.stderr
    flags = ["--labelled", data, "--theory", "lif-fumi-tosi", "--n", "5", "--out", tmp_path / "chosen.extxyz"]
    done = curator_here("select", data, *flags)
    assert done.returncode == 0, done.stderr
    known = {r.frame.hash for r in read_dataset(data).records if r.label.theory.startswith("lif-fumi-tosi")}
    chosen = {frame.hash for frame in read_frames(tmp_path / "chosen.extxyz")}
    assert len(chosen) == 5
    assert chosen <= {frame.hash for frame in frames} - known


def test_a_model_says_what_it_has_learnt_from(tmp_path: Path, data: Path, curator_here):
    curator_here("label", data, "--with", "lif-fumi-tosi", "--into", data)
    flags = ["--theory", "lif-fumi-tosi", "--strategy", "naive", "--epochs", "1", "--batch-size", "2", "--json"]
    done = curator_here("finetune", data, *flags, "--out", tmp_path / "model")
    assert done.returncode == 0, done.stderr
    assert np.isfinite(json.loads(done.stdout)["valid_force_rmse_eV_per_A"]["target"])
    (key,) = [key for key in {r.label.theory for r in read_dataset(data).records} if key.startswith("lif-fumi-tosi")]
    metadata = json.loads((tmp_path / "model" / "model.json").read_text())["metadata"]
    assert metadata["theories"] == {"target": {key: 6}, "replay": {}}
    # A file of curator's own tells its level of theory, too.
    assert curator_here("export", data, "--theory", "pbe", "--out", tmp_path / "export").returncode == 0
    keys = {"energy_key": None, "forces_key": None, "use_calculator": False}
    records, validation, _ = labelled_records(tmp_path / "export" / "train.extxyz", keys)
    assert (len(records), validation) == (6, [])
    assert {record.label.theory.partition("@")[0] for record in records} == {"pbe"}
