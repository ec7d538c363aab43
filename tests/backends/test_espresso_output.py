"""What pw.x says when it stops: each text is that of version 6.7 about the mistake that it names."""

from pathlib import Path

import pytest

from curator.backends.espresso_output import OUTPUT, what_ended
from curator.backends.remedies import LADDERS, next_remedy

RULE = " " + 78 * "%"
POOLS = "Error in routine mp_start_pools (1):\n     invalid number of pools, out of range"
UNDIVIDED = "Error in routine mp_start_pools (1):\n     invalid number of pools, parent_nproc /= nproc_pool * npool"
BAND_GROUPS = "Error in routine mp_start_bands (1):\n     invalid number of band groups, out of range"
TASKS = "Error in routine mp_bands (2):\n      nyfft value incompatible with nproc_bgrp"
KEY = (
    'Error in routine  read_namelists (1):\n      bad line in namelist &electrons: "   mixing_bta = 0.2" '
    "(error could be in the previous line)"
)
MISSING = "Error in routine readpp (1):\n     file /usr/share/espresso/pseudo/F-nowhere.upf not found"
BANDS = "Error in routine setup (1):\n     too few bands"
FUNCTIONAL = "Error in routine set_dft_from_name (1):\n     NOSUCH: unrecognized dft"
CUTOFF = "Error in routine set_cutoff (1):\n     ecutrho <= ecutwfc?!?"
SMEARING = "Error in routine  set_occupations (1):\n      smearing gaussan unknown"
SPIN = "Error in routine iosys (1):\n     fixed occupations and lsda need tot_magnetization"
HUBBARD = "Error in routine init_lda_plus_u (1):\n     lda_plus_u calculation but Hubbard_l not set"


def boxed(said: str) -> str:
    return f"\n{RULE}\n     {said}\n{RULE}\n\n     stopping ...\n"


@pytest.mark.parametrize(
    ("said", "reason", "words"),
    [
        (POOLS, "setup", ["invalid number of pools, out of range", "-nk", "label.command"]),
        (UNDIVIDED, "setup", ["parent_nproc /= nproc_pool * npool", "-nk", "label.command"]),
        (BAND_GROUPS, "setup", ["invalid number of band groups", "-nb", "label.command"]),
        (TASKS, "setup", ["nyfft", "-nt", "label.command"]),
        (KEY, "setup", ["mixing_bta", "does not know a key", "label.input_data"]),
        (MISSING, "setup", ["F-nowhere.upf not found", "label.pseudopotentials"]),
        (FUNCTIONAL, "setup", ["NOSUCH: unrecognized dft", "label.input_data"]),
        (CUTOFF, "setup", ["ecutrho <= ecutwfc", "label.input_data"]),
        (SMEARING, "setup", ["smearing gaussan unknown", "label.input_data"]),
        (BANDS, "input", ["too few bands", "leave nbnd out"]),
        (SPIN, "input", ["need tot_magnetization", "label.input_data"]),
        (HUBBARD, "input", ["Hubbard_l not set", "label.input_data"]),
    ],
)
def test_a_refusal_names_its_remedy_and_is_not_tried_again(tmp_path: Path, said: str, reason: str, words: list[str]):
    (tmp_path / OUTPUT).write_text(boxed(said))
    ended = what_ended(tmp_path, 1, {}, "PBE")
    assert ended is not None
    assert ended.reason == reason
    assert all(word in ended.message for word in words), ended.message
    if ended.reason != "setup":
        assert next_remedy("espresso", ended.reason, []) is None


def test_what_only_the_crash_file_tells(tmp_path: Path):
    # Each process writes there; standard output may be lost with the process that was to write it.
    (tmp_path / "CRASH").write_text(
        f"\n{RULE}\n     task #         0\n     from setup : error #         1\n     too few bands\n{RULE}\n\n\n"
    )
    ended = what_ended(tmp_path, 1, {}, "PBE")
    assert ended is not None
    assert (ended.reason, "stopped in setup (1): too few bands" in ended.message) == ("input", True)


def test_a_launcher_that_does_not_launch(tmp_path: Path):
    for name, said in (("pw.err", "srun: error: Invalid numeric value"), (OUTPUT, "unrecognized argument np4")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text(f"{said}\n")
        # MPICH's launcher ends with 255, which is no signal.
        ended = what_ended(folder, 255, {}, "PBE")
        assert ended is not None
        assert (ended.reason, said in ended.message, "label.command" in ended.message) == ("setup", True, True)
        killed = what_ended(folder, 137, {}, "PBE")
        assert killed is not None
        assert killed.reason == "crash"


def test_a_launcher_of_another_mpi(tmp_path: Path):
    # Each process then takes itself for the only one: as many calculations as processes, and one file of what they say.
    (tmp_path / OUTPUT).write_text(
        2 * "     Program PWSCF v.6.7MaX starts on  1Jan2026\n convergence has been achieved\n"
    )
    ended = what_ended(tmp_path, 0, {}, "PBE")
    assert ended is not None
    assert (ended.reason, "2 pw.x ran, each by itself" in ended.message) == ("setup", True)


def test_other_stops_have_their_remedies(tmp_path: Path):
    for said, reason in (
        ("Error in routine cdiaghg (12):\n     S matrix not positive definite", "scf"),
        ("Error in routine davcio (10):\n     error writing file ./pwscf.wfc1", "crash"),
        ("Error in routine setup (1):\n     something else", "crash"),
    ):
        (tmp_path / OUTPUT).write_text(boxed(said))
        ended = what_ended(tmp_path, 1, {}, "PBE")
        assert ended is not None
        assert ended.reason == reason
        assert next_remedy("espresso", ended.reason, []) in LADDERS["espresso"]


@pytest.mark.parametrize(
    ("printed", "asked", "reason"),
    [
        ("PBE ( 1  4  3  4 0 0)", "PBE", None),
        ("SLA  PW   PBX  PBC\n                           (   1   4   3   4   0   0   0)", "PBE", None),
        ("PBE", "SLA  PW   PBX  PBC", None),
        ("SLA PW PSX PSC", "PBESOL", None),
        ("PBESOL", "PBE", "setup"),
        ("SLA PW NOGX NOGC", "PBE", "setup"),
    ],
)
def test_the_functional_in_whichever_words(tmp_path: Path, printed: str, asked: str, reason: str | None):
    said = (
        "Program PWSCF v.6.7\n Exchange-correlation= {}\n convergence has been achieved in 5 iterations\n JOB DONE.\n"
    )
    (tmp_path / OUTPUT).write_text(said.format(printed))
    ended = what_ended(tmp_path, 0, {}, asked)
    assert (None if ended is None else ended.reason) == reason
