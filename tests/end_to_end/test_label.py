"""Labels from the command line: what is written where, what is never lost, and several chemistries in one call."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write

from curator.backends.labellers import make_labeller
from curator.build import build_plan
from curator.config import read_campaign_file
from curator.dataset import read_dataset, read_labelled
from curator.datasets.extxyz import read_own_records, read_records
from curator.datasets.fence import acquire
from curator.datasets.frame import frame_from_atoms
from curator.datasets.journal import Failure, Journal
from curator.datasets.label import Provenance, Theory
from curator.datasets.store import Store
from curator.labelled import labelled_records

BOTH = "{kind: classical, model: lif-fumi-tosi, also: mini-halides}"
KEYS = {"energy_key": None, "forces_key": None, "use_calculator": False}


def crystals(*formulas: str) -> list[Atoms]:
    lattice = {"LiF": 4.03, "NaF": 4.63, "LiCl": 5.13}
    frames = []
    for seed, formula in enumerate(formulas):
        atoms = bulk(formula, "rocksalt", lattice[formula], cubic=True)
        atoms.rattle(0.05, seed=seed)
        frames.append(atoms)
    return frames


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    write(tmp_path / "frames.extxyz", crystals("LiF", "LiF", "LiF"))
    return tmp_path / "frames.extxyz"


def test_labels_are_written_under_no_name_of_another_format(curator_here, frames: Path, tmp_path: Path):
    done = curator_here("label", frames, "--with", "lif-fumi-tosi", "--out", tmp_path / "labelled.cif")
    assert done.returncode == 2
    assert "labels are written as extxyz; name it *.extxyz or *.xyz" in done.stderr
    assert not list(tmp_path.glob("labelled*"))


def test_labels_of_two_sources_go_to_a_file_each(curator_here, frames: Path, tmp_path: Path):
    (tmp_path / "both.yaml").write_text(BOTH)
    out, beside = tmp_path / "out.extxyz", tmp_path / "out.mini-halides.extxyz"
    done = curator_here("label", frames, "--with", tmp_path / "both.yaml", "--out", out)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("3 labels of lif-fumi-tosi@")
    assert f" in {out}; 0 of 3 failed" in first
    assert second.startswith("3 labels of mini-halides@")
    assert f" in {beside}; 0 of 3 failed" in second
    for file, method in ((out, "lif-fumi-tosi@"), (beside, "mini-halides@")):
        assert all(record.label.theory.startswith(method) for record in read_own_records(file))
        assert len(labelled_records(file, KEYS)[0]) == 3
    told = json.loads(curator_here("label", frames, "--with", tmp_path / "both.yaml", "--out", out, "--json").stdout)
    assert (told["n_labels"], told["also"]["n_labels"]) == (3, 3)
    assert (told["out"], told["also"]["out"]) == (str(out), str(beside))


def test_labels_of_two_sources_stand_side_by_side_in_a_data_set(curator_here, frames: Path, tmp_path: Path):
    (tmp_path / "both.yaml").write_text(BOTH)
    close = read(frames, index=0)
    close.positions[1] = close.positions[0] + [0.2, 0, 0]
    write(frames, [*read(frames, index=":"), close])
    data = tmp_path / "data"
    done = curator_here("label", frames, "--with", tmp_path / "both.yaml", "--into", data)
    assert done.returncode == 1
    assert "frame 3: geometry: atoms 0 (Li) and 1 (F) are 0.20" in done.stdout
    assert "frame 3 with mini-halides: geometry: " in done.stdout
    listed = json.loads(curator_here("export", data, "--list", "--json").stdout)
    assert [item["n_labels"] for item in listed["theories"]] == [3, 3]
    assert listed["compared"][0]["n_frames"] == 3
    assert len(read_labelled(data, "mini-halides")) == 3


def test_a_data_set_may_be_named_by_its_store(curator_here, frames: Path, tmp_path: Path):
    data = tmp_path / "data"
    done = curator_here("label", frames, "--with", "lif-fumi-tosi", "--into", data / "frames.h5", "--json")
    assert json.loads(done.stdout)["out"] == str(data)
    assert len(read_labelled(data, "lif-fumi-tosi")) == 3
    done = curator_here("label", frames, "--with", "lif-fumi-tosi", "--into", data / "more.h5")
    assert done.returncode == 2
    assert "more.h5: labels are kept in a folder, with its frames.h5" in done.stderr


def test_other_commands_ask_which_of_two_sources_is_meant(curator_here, tmp_path: Path):
    (tmp_path / "both.yaml").write_text(BOTH)
    done = curator_here("barrier", "lif-vacancy", "--model", tmp_path / "both.yaml")
    assert done.returncode == 2
    assert "label.also is for campaigns and curator label" in done.stderr


def test_a_file_is_not_overwritten_unasked(curator_here, frames: Path, tmp_path: Path):
    out = tmp_path / "out.extxyz"
    write(out, crystals("NaF"))
    before = out.read_bytes()

    def label(*more: str | Path, of: Path = frames, by: str = "lif-fumi-tosi"):
        return curator_here("label", of, "--with", by, "--out", out, *more)

    refused = label()
    assert refused.returncode == 2
    assert f"{out}: is there already" in refused.stderr
    assert "--force" in refused.stderr
    assert out.read_bytes() == before
    assert not (tmp_path / "out.extxyz.journal").exists()
    assert label("--force").returncode == 0
    assert len(read_own_records(out)) == 3

    # Going on is no overwriting: the same frames, and then more of them.
    assert label().returncode == 0
    write(tmp_path / "more.extxyz", [*read(frames, index=":"), *crystals("LiF", "LiF", "LiF", "LiF")[3:]])
    assert label(of=tmp_path / "more.extxyz").returncode == 0
    assert len(read_own_records(out)) == 4
    # Fewer frames, or another labeller, would leave labels out of the file that are in it.
    before = out.read_bytes()
    assert label().returncode == 2
    assert label(of=tmp_path / "more.extxyz", by="mini-halides").returncode == 2
    assert out.read_bytes() == before


def test_frames_marked_as_a_group_stay_one(curator_here, tmp_path: Path):
    strained = crystals("LiF", "LiF", "LiF")
    for atoms in strained[:2]:
        atoms.info["difference_group"] = "strain"
    write(tmp_path / "strained.extxyz", strained)
    out = tmp_path / "out.extxyz"
    for where in (("--out", out), ("--into", tmp_path / "data")):
        done = curator_here("label", tmp_path / "strained.extxyz", "--with", "lif-fumi-tosi", *where)
        assert done.returncode == 0, done.stderr
    # Whoever reads the file, as our own or as any other, or the data set: two of a group, and one by itself.
    theory = Theory("any", "any")
    for records in (read_own_records(out), read_records(out, theory=theory), read_dataset(tmp_path / "data").records):
        origins = [record.provenance for record in records]
        assert [origin.reason for origin in origins] == ["group", "group", "import"]
        assert origins[0].group == origins[1].group != origins[2].group


@pytest.fixture
def label_file(pseudopotentials: Path, tmp_path: Path) -> Path:
    path = tmp_path / "pbe.yaml"
    quick = "kind: dft\npreset: pbe-quick\ncutoff_Ry: 20\nconvergence_Ry: 1.0e-5\nkpoint_spacing_per_A: 9\n"
    path.write_text(f"{quick}pseudopotentials: {pseudopotentials}\n")
    return path


def test_what_a_label_means_depends_on_its_frame_alone(curator_here, label_file: Path, tmp_path: Path):
    small = [bulk(name, "rocksalt", a) for name, a in (("LiF", 4.03), ("NaF", 4.63), ("LiF", 4.1))]
    write(tmp_path / "lif.extxyz", small[0])
    write(tmp_path / "mixed.extxyz", small)
    write(tmp_path / "nacl.extxyz", bulk("NaCl", "rocksalt", 5.6))
    told = []
    for name in ("lif", "mixed"):
        into = ("--into", tmp_path / "data", "--json")
        done = curator_here("label", tmp_path / f"{name}.extxyz", "--with", label_file, *into)
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout))
    assert [(each["n_labels"], each["n_new"]) for each in told] == [(1, 1), (3, 2)]
    data = read_dataset(tmp_path / "data")
    # The first frame was not bought again for its new company.
    assert len(data.records) == 3
    keys = {tuple(sorted(set(record.frame.numbers.tolist()))): record.label.theory for record in data.records}
    assert len(set(keys.values())) == 2
    assert {tuple(theory.hashes) for theory in data.theories.values()} == {("F", "Li"), ("F", "Na")}

    # They are one level of theory all the same, that of a table which names the three elements.
    together = read_labelled(tmp_path / "data", "pbe")
    assert len(together) == 3
    (key,) = {record.label.theory for record in together}
    assert told[1]["theory"] == key
    folder = label_file.read_text().splitlines()[-1].removeprefix("pseudopotentials: ")
    table = "{" + ", ".join(f"{symbol}: {folder}/{symbol}.upf" for symbol in ("F", "Li", "Na")) + "}"
    label_file.write_text("\n".join([*label_file.read_text().splitlines()[:-1], f"pseudopotentials: {table}"]))
    done = curator_here(
        "label", tmp_path / "lif.extxyz", "--with", label_file, "--out", tmp_path / "out.extxyz", "--json"
    )
    assert json.loads(done.stdout)["theory"] == key
    # Nor is it bought again where the table asks for it.
    again = curator_here("label", tmp_path / "lif.extxyz", "--with", label_file, "--into", tmp_path / "data", "--json")
    assert json.loads(again.stdout)["n_labels"] == 1
    assert len(read_dataset(tmp_path / "data").records) == 3
    lines = curator_here("export", tmp_path / "data", "--list").stdout.splitlines()
    assert all(line.endswith(f"for some elements of {key}") for line in lines[:2])
    # It has another key once there is another element, and is still known by the one that was told.
    assert curator_here("label", tmp_path / "nacl.extxyz", "--with", label_file, "--into", tmp_path / "data").returncode
    label_file.write_text(label_file.read_text().replace("{F:", f"{{Cl: {folder}/Cl.upf, F:"))
    done = curator_here("label", tmp_path / "nacl.extxyz", "--with", label_file, "--into", tmp_path / "data")
    assert done.returncode == 0, done.stderr
    assert len(read_labelled(tmp_path / "data", key)) == 4


def test_a_file_of_several_chemistries_can_be_trained_on(curator_here, label_file: Path, tmp_path: Path):
    write(tmp_path / "mixed.extxyz", [bulk("LiF", "rocksalt", 4.03), bulk("NaF", "rocksalt", 4.63)])
    out = tmp_path / "out.extxyz"
    done = curator_here("label", tmp_path / "mixed.extxyz", "--with", label_file, "--out", out)
    assert done.returncode == 0, done.stderr
    assert len(labelled_records(out, KEYS)[0]) == 2


def test_the_quarantine_of_a_campaign_is_tried_again_with_each_of_its_sources(curator_here, tmp_path: Path):
    campaign = tmp_path / "lif" / "campaign.yaml"
    campaign.parent.mkdir()
    campaign.write_text(f"system: {{structure: lif-interstitial}}\nmeasure: {{diffusion: null}}\nlabel: {BOTH}\n")
    assert "has not begun" in curator_here("label", campaign, "--retry").stderr
    plan = build_plan(read_campaign_file(campaign), campaign.parent)
    theories = [make_labeller(spec).theory for spec in (plan.labeller, plan.also)]
    soft, hard = (frame_from_atoms(atoms) for atoms in crystals("LiF", "LiF"))
    hard = replace(hard, positions=np.zeros_like(hard.positions))
    origin = Provenance(0, "explore/T600", "T600-0", "train", "different")
    with acquire(campaign.parent / "journal") as fence:
        journal = Journal(campaign.parent / "journal", fence)
        for frame, theory in ((soft, theories[0]), (soft, theories[1]), (hard, theories[0])):
            journal.publish(Failure(frame, theory.key, "crash", "the node was lost", origin), theory)

    done = curator_here("label", campaign, "--retry", "--json")
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert (told["n_tried"], told["n_labels"], told["died"]) == (3, 2, [])
    assert [(one["source"], one["reason"]) for one in told["failed"]] == [("explore/T600", "geometry")]
    with Store(campaign.parent / "frames.h5", "r") as store:
        assert {record.label.theory for record in store.records()} == {theory.key for theory in theories}
        assert {record.provenance for record in store.records()} == {origin}
    again = curator_here("label", campaign, "--retry")
    assert "0 of 1 frames in quarantine have a label now" in again.stdout
