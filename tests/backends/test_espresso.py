"""Quantum ESPRESSO as a labeller: the right numbers, and failures told by what really happened."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write

from curator.backends.base import LabelFailed, LabellerSpec, SetupError, check_labeller
from curator.backends.labellers import at_charge, label_frame, labeller_calculator, make_labeller
from curator.datasets.frame import frame_from_atoms
from curator.datasets.label import Label

MakeSpec = Callable[..., LabellerSpec]


@pytest.fixture
def espresso(pseudopotentials: Path, tmp_path: Path) -> MakeSpec:
    """Make a quick labeller of LiF: 2-atom cells take a second."""

    def make(command: str = "", walltime_s: float = 600.0, **changes: Any) -> LabellerSpec:
        settings = {
            "pseudopotentials": {symbol: str(pseudopotentials / f"{symbol}.upf") for symbol in ("Li", "F")},
            "cutoff_Ry": 40.0,
            "kpoint_spacing_per_A": 1.2,
            "convergence_Ry": 1e-10,
        } | changes
        return LabellerSpec(
            "dft",
            "espresso",
            settings=json.dumps(settings),
            command=command,
            walltime_s=walltime_s,
            scratch=str(tmp_path / "calculations"),
        )

    return make


@pytest.fixture
def pair() -> Atoms:
    """Two atoms of LiF, off their symmetric places."""
    atoms = bulk("LiF", "rocksalt", 4.03)
    atoms.positions[1] += [0.12, 0.05, 0.02]
    return atoms


def labelled(spec: LabellerSpec, atoms: Atoms) -> Label:
    outcome = make_labeller(spec).label(atoms)
    assert isinstance(outcome, Label), outcome
    return outcome


def failed(spec: LabellerSpec, atoms: Atoms) -> LabelFailed:
    outcome = make_labeller(spec).label(atoms)
    assert isinstance(outcome, LabelFailed), outcome
    return outcome


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_numbers_are_those_of_a_calculation_by_hand(espresso: MakeSpec, pair: Atoms, pseudopotentials, tmp_path: Path):
    label = labelled(espresso(), pair)
    data = {
        "control": {"tprnfor": True, "tstress": True, "pseudo_dir": str(pseudopotentials), "outdir": str(tmp_path)},
        "system": {"ecutwfc": 40.0, "occupations": "fixed"},
        "electrons": {"conv_thr": 1e-10, "mixing_beta": 0.5},
    }
    names = {"Li": "Li.upf", "F": "F.upf"}
    write(tmp_path / "hand.in", pair, format="espresso-in", input_data=data, pseudopotentials=names, kpts=(3, 3, 3))
    with (tmp_path / "hand.out").open("w") as out:
        subprocess.run(["pw.x", "-in", "hand.in"], cwd=tmp_path, stdout=out, check=True)
    hand = read(tmp_path / "hand.out", format="espresso-out")
    assert label.energy == pytest.approx(hand.get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(label.forces, hand.get_forces(), atol=1e-5)
    np.testing.assert_allclose(label.stress, hand.get_stress(), atol=1e-6)
    assert label.remedy == ""
    assert label.cpu_s > 0.1


def test_keeps_the_contract(espresso: MakeSpec, pair: Atoms):
    # Of a slab no stress is asked, which at a low cutoff is not the slope of the energy: the basis stays behind.
    pair.pbc = [True, True, False]
    pair.positions[1] += [0.2, 0.1, 0.0]
    check_labeller(make_labeller(espresso()), pair, force_tolerance_eV_per_A=0.02)


@pytest.mark.slow
def test_stress_is_the_slope_of_the_energy_where_the_cutoff_is_high_enough(espresso: MakeSpec, pair: Atoms):
    check_labeller(make_labeller(espresso(cutoff_Ry=120.0)), pair, stress_tolerance_eV_per_A3=2e-3)


def test_nothing_is_left_of_a_success(espresso: MakeSpec, pair: Atoms, tmp_path: Path):
    labelled(espresso(), pair)
    assert list((tmp_path / "calculations").iterdir()) == []


def test_a_remedy_that_helps_is_recorded_and_changes_nothing(espresso: MakeSpec, pair: Atoms):
    hasty = espresso(input_data={"electrons": {"electron_maxstep": 3}})
    label, plain = labelled(hasty, pair), labelled(espresso(), pair)
    assert label.remedy == "more steps, mixing 0.2"
    assert label.theory == plain.theory
    assert label.energy == pytest.approx(plain.energy, abs=1e-6)
    np.testing.assert_allclose(label.forces, plain.forces, atol=1e-3)


@pytest.mark.slow
def test_density_of_a_smeared_calculation_is_a_start_and_not_an_answer(espresso: MakeSpec, pair: Atoms, tmp_path: Path):
    # Only a calculation that finds a density in its folder converges: the earlier steps of the ladder see a loose end.
    only_from_file = script(
        tmp_path / "pw-late.sh",
        "grep -q \"startingpot *= 'file'\" pw.in || grep -q smearing pw.in"
        " || sed -i 's/electron_maxstep.*/electron_maxstep = 2/' pw.in\nexec pw.x \"$@\"",
    )
    label, plain = labelled(espresso(only_from_file), pair), labelled(espresso(), pair)
    assert label.remedy.endswith("from the density of a smeared calculation")
    assert label.energy == pytest.approx(plain.energy, abs=1e-6)
    assert list((tmp_path / "calculations").iterdir()) == []


def test_what_does_not_converge_is_no_label(espresso: MakeSpec, pair: Atoms, tmp_path: Path):
    hopeless = script(
        tmp_path / "pw-hopeless.sh", "sed -i 's/electron_maxstep.*/electron_maxstep = 2/' pw.in\nexec pw.x \"$@\""
    )
    failure = failed(espresso(hopeless), pair)
    assert failure.reason == "scf"
    assert "not converged after 2 SCF steps, estimated accuracy" in failure.message
    assert "more steps, mixing 0.2; local Thomas-Fermi" in failure.message
    (folder,) = (tmp_path / "calculations").iterdir()
    assert str(folder) in failure.message
    assert {"pw.in", "pw.out"} <= {path.name for path in folder.rglob("*")}


def test_success_without_convergence_is_seen_through(espresso: MakeSpec, pair: Atoms, tmp_path: Path):
    # pw.x then ends with status 0, says that convergence has been achieved, and quacc and ASE return its numbers.
    lying = script(
        tmp_path / "pw-lying.sh",
        "sed -i 's/electron_maxstep.*/electron_maxstep = 2\\n scf_must_converge = .false./' pw.in\nexec pw.x \"$@\"",
    )
    assert failed(espresso(lying), pair).reason == "scf"


def test_time_limit(espresso: MakeSpec, tmp_path: Path):
    atoms = bulk("LiF", "rocksalt", 4.03, cubic=True)
    atoms.rattle(0.05, seed=1)
    failure = failed(espresso(walltime_s=1.5, cutoff_Ry=80.0), atoms)
    assert (failure.reason, "walltime_h" in failure.message) == ("walltime", True)
    stubborn = script(tmp_path / "pw-sleeps.sh", "sleep 100")
    assert failed(espresso(stubborn, walltime_s=1.0), atoms).reason == "walltime"


def test_a_killed_calculation_is_tried_once_more(espresso: MakeSpec, pair: Atoms, tmp_path: Path):
    flag = tmp_path / "flag"
    once = script(tmp_path / "pw-once.sh", f'[ -e {flag} ] && exec pw.x "$@"; [ $# = 0 ] || touch {flag}; kill -9 $$')
    assert labelled(espresso(once), pair).remedy == "the same again"
    always = script(tmp_path / "pw-dies.sh", "echo 'no licence today' >&2; kill -9 $$")
    failure = failed(espresso(always), pair)
    assert failure.reason == "crash"
    assert "status 137" in failure.message
    assert "no licence today" in failure.message


def test_another_pseudopotential_than_was_asked_for(espresso: MakeSpec, pair: Atoms, tmp_path: Path):
    swapping = script(
        tmp_path / "pw-swaps.sh",
        'link=$(ls ../pseudopotentials/Li.*.upf); cp --remove-destination "$(readlink -f "$link")" "$link"\n'
        'echo >> "$link"; exec pw.x "$@"',
    )
    failure = failed(espresso(swapping), pair)
    assert failure.reason == "crash"
    assert "another pseudopotential of Li" in failure.message


def test_a_missing_program_says_nothing_of_the_frame(espresso: MakeSpec, pair: Atoms):
    spec = espresso("pw-is-not-here.x")
    with pytest.raises(SetupError, match=r"no program pw-is-not-here\.x .* label\.command"):
        label_frame(spec, frame_from_atoms(pair))
    assert make_labeller(spec).theory.key == make_labeller(espresso()).theory.key


def test_a_missing_launcher_says_nothing_of_the_frame(espresso: MakeSpec, pair: Atoms):
    with pytest.raises(SetupError, match=r"no program mpirun-gone on this machine; .* label\.command"):
        label_frame(espresso("mpirun-gone -np 2 pw.x"), frame_from_atoms(pair))


def test_too_few_bands_are_not_tried_again(espresso: MakeSpec, pair: Atoms, tmp_path: Path):
    counting = script(tmp_path / "pw-counts.sh", f'[ $# = 0 ] || echo run >> {tmp_path}/runs\nexec pw.x "$@"')
    failure = failed(espresso(counting, input_data={"system": {"nbnd": 3}}), pair)
    assert failure.reason == "input"
    assert "pw.x stopped in setup (1): too few bands; leave nbnd out of label.input_data" in failure.message
    assert (tmp_path / "runs").read_text().split() == ["run"]


@pytest.mark.parametrize(
    ("command", "changes", "said"),
    [
        ("{} -nk 3", {}, r"number of pools, .*-nk.* label\.command"),
        # A key of later versions than the one that runs here.
        ("{}", {"input_data": {"electrons": {"diago_rmm_ndim": 4}}}, r"diago_rmm_ndim.* label\.input_data"),
        ("{}", {"input_data": {"system": {"input_dft": "nosuch"}}}, r"NOSUCH: unrecognized dft; see label\.input_data"),
    ],
)
def test_a_set_up_that_fits_no_frame_is_told_at_once(
    espresso: MakeSpec, pair: Atoms, tmp_path: Path, command: str, changes: dict[str, Any], said: str
):
    counting = script(tmp_path / "pw-counts.sh", f'[ $# = 0 ] || echo run >> {tmp_path}/runs\nexec pw.x "$@"')
    with pytest.raises(SetupError, match=said) as error:
        label_frame(espresso(command.format(counting), **changes), frame_from_atoms(pair))
    assert (tmp_path / "runs").read_text().split() == ["run"]
    folder = Path(str(error.value).rpartition("files in ")[2])
    assert (folder / "pw.in").exists()


def test_a_pseudopotential_that_is_gone_is_told_at_once(espresso: MakeSpec, pair: Atoms, tmp_path: Path):
    losing = script(tmp_path / "pw-loses.sh", 'rm -f ../pseudopotentials/F.*.upf\nexec pw.x "$@"')
    with pytest.raises(SetupError, match=r"stopped in readpp \(1\): file .* not found; see label\.pseudopotentials"):
        label_frame(espresso(losing), frame_from_atoms(pair))


def test_impossible_frames_cost_nothing(espresso: MakeSpec, pair: Atoms):
    spec = espresso("pw-is-not-here.x")
    close = pair.copy()
    close.positions[1] = close.positions[0] + [0.2, 0, 0]
    assert "0.20 Å apart" in failed(spec, close).message
    odd = Atoms("Li2F", positions=[(0, 0, 0), (2, 2, 2), (0, 2, 0)], cell=[4, 4, 4], pbc=True)
    failure = failed(spec, odd)
    assert (failure.reason, "13 electrons" in failure.message) == ("input", True)
    assert "charge=1" in failure.message
    odd.info["multiplicity"] = 3
    assert "cannot have a multiplicity of 3" in failed(at_charge(spec, 0, 3), odd).message
    assert "no pseudopotential of Na" in failed(spec, bulk("NaF", "rocksalt", 4.6)).message
    charged = pair.copy()
    charged.info["charge"] = 1
    assert "charge of +1, the level of theory one of +0" in failed(spec, charged).message


def test_pseudopotential_of_another_element_is_refused(espresso: MakeSpec, pseudopotentials: Path):
    swapped = {"Li": str(pseudopotentials / "Na.upf"), "F": str(pseudopotentials / "F.upf")}
    with pytest.raises(ValueError, match=r"Na\.upf: is of Na, and was given for Li"):
        make_labeller(espresso(pseudopotentials=swapped))


def test_charge_and_spin(espresso: MakeSpec):
    odd = Atoms("Li2F", positions=[(0, 0, 0), (2, 2, 2), (0, 2, 0)], cell=[4, 4, 4.2], pbc=True)
    positive, doublet = odd.copy(), odd.copy()
    positive.info["charge"] = 1
    doublet.info["multiplicity"] = 2
    keys = set()
    for atoms, charge, multiplicity in ((positive, 1, 0), (doublet, 0, 2)):
        label = labelled(at_charge(espresso(), charge, multiplicity), atoms)
        assert np.abs(label.forces).max() > 0.01
        keys.add(label.theory)
    assert len(keys | {make_labeller(espresso()).theory.key}) == 3


def test_calculator_of_the_same_theory(espresso: MakeSpec, pair: Atoms):
    label, atoms = labelled(espresso(), pair), pair.copy()
    atoms.calc = labeller_calculator(espresso())
    assert atoms.get_potential_energy() == pytest.approx(label.energy, abs=1e-9)
    np.testing.assert_allclose(atoms.get_stress(), label.stress)


@pytest.mark.slow
def test_several_processes_give_the_same(espresso: MakeSpec, pair: Atoms):
    # By that name: an environment may have another MPI's mpirun.
    if shutil.which("mpirun.openmpi") is None:
        pytest.skip("needs mpirun.openmpi (apt install openmpi-bin)")
    parallel = "mpirun.openmpi --allow-run-as-root --oversubscribe -np 2 pw.x -nk 2"
    alone, together = labelled(espresso(), pair), labelled(espresso(parallel), pair)
    assert together.theory == alone.theory
    assert together.energy == pytest.approx(alone.energy, abs=1e-6)
    np.testing.assert_allclose(together.forces, alone.forces, atol=1e-4)


def test_spec_is_the_theory_and_not_where_it_runs(espresso: MakeSpec):
    spec = espresso()
    elsewhere = replace(spec, scratch="/somewhere/else", command="mpirun -np 4 pw.x -nk 2", walltime_s=7.0)
    assert make_labeller(elsewhere).theory.key == make_labeller(spec).theory.key
    for changes in ({"cutoff_Ry": 41.0}, {"smearing_Ry": 0.01}, {"input_data": {"system": {"nosym": True}}}):
        assert make_labeller(espresso(**changes)).theory.key != make_labeller(spec).theory.key
    slower = espresso(input_data={"electrons": {"mixing_beta": 0.1}})
    assert make_labeller(slower).theory.key == make_labeller(spec).theory.key
