"""Any ASE calculator keeps the contract, in this Python environment and in another, and does no harm when it dies."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import sysconfig
import textwrap
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import ase
import numpy as np
import psutil
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones

from curator.backends import foreign, foreign_server
from curator.backends.base import LabelFailed, LabellerSpec, check_labeller
from curator.backends.calculator import FailedCalculation
from curator.backends.foreign import ForeignError, make_foreign
from curator.backends.labellers import at_charge, labeller_calculator, make_labeller
from curator.datasets.digest import sha256_of
from curator.datasets.label import Label

PARAMETERS = {"sigma": 1.5, "epsilon": 0.1, "rc": 5.0, "smooth": True}
LJ = LabellerSpec("classical", "lj", settings=json.dumps(PARAMETERS), calculator="ase.calculators.lj:LennardJones")

WAYWARD = """
    import os, signal, sys, time
    from ase.calculators.lj import LennardJones

    class Wayward(LennardJones):
        '''Does what the first coordinate says before it calculates.'''
        def __init__(self, pid_file=None, weights=None, charge=0, **parameters):
            super().__init__(**parameters)
            print("a banner")
            if pid_file:
                open(pid_file, "a").write(f"{os.getpid()}\\n")

        def calculate(self, atoms, properties, changes):
            print("from Python", flush=True)
            os.write(1, b"from C\\n")
            os.write(2, b"x" * 1_000_000 + b"\\n")
            assert sys.stdin.read() == "" and os.read(0, 10) == b""
            deed = round(atoms.positions[0, 0])
            if deed == 100:
                raise RuntimeError("out of\\nluck")
            if deed == 200:
                os.kill(os.getpid(), signal.SIGSEGV)
            if deed == 300:
                time.sleep(600)
            if deed == 400:
                print("cannot go on", file=sys.stderr, flush=True)
                os._exit(3)
            super().calculate(atoms, properties, changes)
            self.converged = deed != 800
            if deed == 900:
                raise MemoryError
            if deed == 1000:
                raise OSError(28, "No space left on device")
            if deed == 500:
                self.results["forces"] = self.results["forces"][:-1]
            if deed == 600:
                self.results["energy"] = self.results["free_energy"] = float("nan")
            if deed == 700:
                self.results["free_energy"] = 7.5
"""


NOTES = """
    import time
    from pathlib import Path
    import numpy as np
    from ase.calculators.calculator import Calculator, all_changes

    class Notes(Calculator):
        '''Writes the first coordinate where it stands, as programs do with their input, and reads it after a while.'''
        implemented_properties = ["energy", "forces"]

        def calculate(self, atoms=None, properties=(), changes=all_changes):
            super().calculate(atoms, properties, changes)
            Path("in.txt").write_text(repr(float(atoms.positions[0, 0])))
            time.sleep(0.5)
            self.results = {"energy": float(Path("in.txt").read_text()), "forces": np.zeros((len(atoms), 3))}
"""


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of an environment with ASE, NumPy, SciPy and a package of its own, and nothing else."""
    folder = tmp_path_factory.mktemp("other environment")
    venv.create(folder, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    ours = Path(sysconfig.get_path("purelib"))
    for pattern in ("ase", "numpy", "numpy.libs", "scipy", "scipy.libs"):
        (packages / pattern).symlink_to(ours / pattern)
    (packages / "wayward.py").write_text(textwrap.dedent(WAYWARD))
    about = packages / "wayward_potentials-2.5.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: wayward-potentials\nVersion: 2.5\n")
    (about / "RECORD").write_text("wayward.py,,\n")
    (about / "top_level.txt").write_text("wayward\n")
    return folder / "bin" / "python"


@pytest.fixture
def wayward(other: Path) -> LabellerSpec:
    return replace(LJ, calculator="wayward:Wayward", python=str(other), walltime_s=20.0)


def _at(cell: Atoms, x: float) -> Atoms:
    """The same crystal moved so that its first atom has the coordinate."""
    moved = cell.copy()
    moved.positions[:, 0] += x - moved.positions[0, 0]
    return moved


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_keeps_the_contract_here_and_elsewhere(cell: Atoms, other: Path) -> None:
    here, elsewhere = make_labeller(LJ), make_labeller(replace(LJ, python=str(other)))
    for labeller in (here, elsewhere):
        check_labeller(labeller, cell, force_tolerance_eV_per_A=2e-3)
    assert here.theory.key == elsewhere.theory.key
    assert here.theory.versions == elsewhere.theory.versions == {"ase": ase.__version__}


def test_numbers_are_those_of_the_calculator_to_the_last_digit(cell: Atoms, other: Path) -> None:
    spec = replace(LJ, python=str(other))
    label = make_labeller(spec).label(cell)
    assert isinstance(label, Label)
    assert label.cpu_s > 0.0
    cell.calc = LennardJones(**PARAMETERS)
    energy, forces, stress = cell.get_potential_energy(), cell.get_forces(), cell.get_stress()
    assert label.energy == energy
    np.testing.assert_array_equal(label.forces, forces)
    np.testing.assert_array_equal(label.stress, stress)
    cell.calc = labeller_calculator(spec)
    np.testing.assert_array_equal(cell.get_forces(), forces)
    cell.pbc = False
    label = make_labeller(spec).label(cell)
    assert isinstance(label, Label)
    assert label.stress is None


def test_energy_is_the_one_that_goes_with_the_forces(cell: Atoms, wayward: LabellerSpec) -> None:
    label = make_labeller(wayward).label(_at(cell, 700))
    assert isinstance(label, Label)
    assert label.energy == 7.5


def test_prints_do_no_harm_and_versions_are_told(
    cell: Atoms, wayward: LabellerSpec, capfd: pytest.CaptureFixture[str]
) -> None:
    labeller = make_labeller(wayward)
    for _ in range(5):
        assert isinstance(labeller.label(cell), Label)
    assert labeller.theory.versions == {"ase": ase.__version__, "wayward-potentials": "2.5"}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("deed", "reason", "message"),
    [
        (100, "crash", "RuntimeError: out of luck"),
        (200, "crash", "its process ended by SIGSEGV"),
        (400, "crash", "its process ended, saying: cannot go on"),
        (500, "parse", r"forces have shape \(7, 3\), not \(8, 3\)"),
        (600, "nonfinite", "not finite"),
        (800, "scf", "says that it did not converge"),
        (900, "memory", "MemoryError"),
    ],
)
def test_a_failure_is_a_value_and_the_next_frame_is_labelled(
    cell: Atoms, wayward: LabellerSpec, deed: int, reason: str, message: str
) -> None:
    labeller = make_labeller(wayward)
    before = labeller.label(cell)
    outcome = labeller.label(_at(cell, deed))
    assert isinstance(outcome, LabelFailed)
    assert outcome.reason == reason
    assert re.search(message, outcome.message), outcome.message
    after = labeller.label(cell)
    assert isinstance(before, Label)
    assert isinstance(after, Label)
    assert after.energy == before.energy


def test_one_process_until_it_dies_or_takes_too_long(cell: Atoms, wayward: LabellerSpec, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    settings = json.dumps(PARAMETERS | {"pid_file": str(pids)})
    spec = replace(wayward, settings=settings, walltime_s=8.0)
    labeller = make_labeller(spec)
    for atoms in (cell, _at(cell, 1), _at(cell, 100), _at(cell, 2)):
        labeller.label(atoms)
    labeller_calculator(spec).get_potential_energy(cell)
    (first,) = map(int, pids.read_text().split())
    started = time.monotonic()
    outcome = labeller.label(_at(cell, 300))
    assert isinstance(outcome, LabelFailed)
    assert (outcome.reason, outcome.message) == ("walltime", "no answer within 8 s")
    assert time.monotonic() - started < 20
    assert not _alive(first)
    assert isinstance(labeller.label(cell), Label)
    assert len(pids.read_text().split()) == 2


def test_no_frame_is_blamed_for_a_death_between_two(cell: Atoms, wayward: LabellerSpec, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    labeller = make_labeller(replace(wayward, settings=json.dumps(PARAMETERS | {"pid_file": str(pids)})))
    assert isinstance(labeller.label(cell), Label)
    server = psutil.Process(int(pids.read_text()))
    leash = server.parent()
    assert leash is not None
    server.kill()
    while _alive(leash.pid):
        time.sleep(0.05)
    assert isinstance(labeller.label(_at(cell, 1)), Label)
    assert len(pids.read_text().split()) == 2


def test_an_answer_that_was_not_waited_for_is_never_taken_for_another(
    cell: Atoms, wayward: LabellerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    calculator = labeller_calculator(wayward)
    energy = calculator.get_potential_energy(cell)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(foreign.select, "select", interrupted)
        with pytest.raises(KeyboardInterrupt):
            calculator.get_potential_energy(_at(cell, 700))
    assert calculator.get_potential_energy(_at(cell, 2)) == pytest.approx(energy, abs=1e-9)


def test_it_does_not_outlive_a_killed_parent(wayward: LabellerSpec, tmp_path: Path) -> None:
    """Not even in the middle of a calculation."""
    pids = tmp_path / "pids"
    spec = replace(wayward, settings=json.dumps(PARAMETERS | {"pid_file": str(pids)}))
    code = (
        "import sys; from ase.build import bulk; from curator.backends.base import LabellerSpec;"
        "from curator.backends.labellers import make_labeller;"
        f"labeller = make_labeller({spec!r}); atoms = bulk('LiF', 'rocksalt', a=4.1);"
        "atoms.positions[:, 0] += 300; print('now', flush=True); labeller.label(atoms)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"now\n"
        time.sleep(0.5)
        parent.send_signal(signal.SIGKILL)
    (pid,) = map(int, pids.read_text().split())
    deadline = time.monotonic() + 10
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(pid)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"python": "/no/such/python"}, "there is no interpreter /no/such/python"),
        ({"calculator": "no_such_package:Potential"}, "ModuleNotFoundError: No module named 'no_such_package'"),
        ({"calculator": "wayward:Steady"}, "AttributeError: module 'wayward' has no attribute 'Steady'"),
        ({"calculator": "ase.calculators.mixing:SumCalculator", "settings": "{}"}, "missing 1 required .*'calcs'"),
        ({"calculator": "ase.calculators.tip3p:rOH", "settings": "{}"}, "TypeError: 'float' object is not callable"),
        ({"calculator": "curator.backends.classical:FumiTosiLiF"}, "No module named 'curator'"),
        ({"calculator": "calculator:WholeCalculator"}, "No module named 'calculator'"),
    ],
)
def test_what_cannot_be_had_is_told_before_any_frame(
    wayward: LabellerSpec, change: dict[str, str], message: str
) -> None:
    with pytest.raises(ForeignError, match=message):
        make_labeller(replace(wayward, **change))


def test_an_environment_without_ase(tmp_path: Path, wayward: LabellerSpec) -> None:
    venv.create(tmp_path / "bare", symlinks=True)
    with pytest.raises(ForeignError, match=r"cannot be made in .*bare/bin/python: .* No module named 'ase'"):
        make_labeller(replace(wayward, python=str(tmp_path / "bare" / "bin" / "python")))


def test_another_protocol_is_refused(wayward: LabellerSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "PROTOCOL", 2)
    with pytest.raises(ForeignError, match="the server speaks protocol 1, not 2"):
        make_labeller(replace(wayward, walltime_s=19.0))


def test_an_environment_that_is_gone_says_nothing_about_a_frame(cell: Atoms, wayward: LabellerSpec) -> None:
    labeller, python = make_labeller(wayward), Path(wayward.python)
    assert isinstance(labeller.label(_at(cell, 400)), LabelFailed)
    elsewhere = python.rename(python.with_name("elsewhere"))
    with pytest.raises(ForeignError, match="there is no interpreter"):
        labeller.label(cell)
    elsewhere.rename(python)
    assert isinstance(labeller.label(cell), Label)


def test_a_full_disk_says_nothing_about_a_frame(cell: Atoms, wayward: LabellerSpec, tmp_path: Path) -> None:
    labeller = make_labeller(wayward)
    with pytest.raises(ForeignError, match="No space left"):
        labeller.label(_at(cell, 1000))
    assert isinstance(labeller.label(cell), Label)
    (tmp_path / "a file").write_text("")
    with pytest.raises(ForeignError, match="has no folder to work in"):
        make_labeller(replace(wayward, scratch=str(tmp_path / "a file")))


@pytest.mark.parametrize("nested", [False, True])
def test_a_file_counts_by_its_content(wayward: LabellerSpec, tmp_path: Path, nested: bool) -> None:
    keys = []
    for name, content in (("a", "1"), ("b", "1"), ("c", "2")):
        path = tmp_path / name
        path.write_text(content)
        weights = {"tables": [str(path), 3]} if nested else str(path)
        settings = json.dumps(PARAMETERS | {"weights": weights})
        theory = make_labeller(replace(wayward, settings=settings, walltime_s=17.0)).theory
        digest = sha256_of(path)
        if nested:
            assert theory.hashes == {}
            assert theory.settings == PARAMETERS | {"weights": {"tables": [digest, 3]}}
        else:
            assert theory.hashes == {"weights": digest}
            assert theory.settings == PARAMETERS
        keys.append(theory.key)
    assert keys[0] == keys[1] != keys[2]


def test_names_count_from_the_folder_and_enter_the_theory_as_they_are(wayward: LabellerSpec, tmp_path: Path) -> None:
    (tmp_path / "basis").mkdir()
    (tmp_path / "basis" / "Li").write_text("")
    given = {"head": "basis", "files": ["./basis", "basis/Li"], "label": "basis/Li", "text": "x" * 5000}
    spec = replace(wayward, settings=json.dumps(PARAMETERS | given), folder=str(tmp_path))
    theory, calculator = make_foreign(spec)
    told = json.loads(calculator._source.parameters)
    # A bare name may be that of anything; a label is where a calculator writes.
    assert told == PARAMETERS | given | {"files": [str(tmp_path / "basis"), str(tmp_path / "basis" / "Li")]}
    digest = sha256_of(tmp_path / "basis" / "Li")
    assert theory.settings == PARAMETERS | given | {"files": ["./basis", digest]}


def test_a_module_beside_the_file_is_found_and_counts_by_its_content(wayward: LabellerSpec, tmp_path: Path) -> None:
    keys = []
    for python in ("", wayward.python):
        for name, comment in (("a", ""), ("b", ""), ("c", "# other settings")):
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            (folder / "mine.py").write_text(f"from ase.calculators.lj import LennardJones as Mine  {comment}\n")
            theory = make_labeller(replace(LJ, calculator="mine:Mine", python=python, folder=str(folder))).theory
            assert set(theory.hashes) == {"mine.py"}
            keys.append(theory.key)
    assert keys[0] == keys[1] == keys[3] == keys[4] != keys[2] == keys[5]


def test_two_processes_do_not_write_into_each_others_files(
    cell: Atoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.py").write_text(textwrap.dedent(NOTES))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    scratch = tmp_path / "calculations"
    spec = LabellerSpec("dft", "notes", calculator="notes:Notes", folder=str(tmp_path), scratch=str(scratch))
    # Which workers are, too: a process each.
    labellers = [make_labeller(replace(spec, walltime_s=walltime_s)) for walltime_s in (50.0, 51.0)]
    assert len(list(scratch.iterdir())) == 2
    with ThreadPoolExecutor() as pool:
        labels = list(pool.map(lambda labeller, x: labeller.label(_at(cell, x)), labellers, (1.0, 2.0)))
    assert [label.energy for label in labels] == pytest.approx([1.0, 2.0])
    assert not list((tmp_path / "here").iterdir())
    for labeller in labellers:
        foreign._process(labeller.calculator._source)._stop()
    assert not list(scratch.iterdir())


def test_nothing_is_taken_from_the_frame_before() -> None:
    class Changing(Calculator):
        """Has a free energy now and then."""

        implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

        def calculate(self, atoms: Any = None, properties: Any = (), system_changes: Any = all_changes) -> None:
            super().calculate(atoms, properties, system_changes)
            self.results |= {"energy": -1.0, "forces": np.zeros((len(atoms), 3))}
            if len(atoms) == 2:
                self.results["free_energy"] = -7.0

    calculator, energies = Changing(), []
    for n in (2, 3):
        positions = [[0.0, 0.0, 2.0 * i] for i in range(n)]
        answer = foreign_server.calculate(
            calculator, [3] * n, positions, np.eye(3).tolist(), [True] * 3, ["energy", "forces"]
        )
        energies.append(answer["energy"])
    assert energies == [-7.0, -1.0]


def test_charge_must_be_that_of_the_parameters(cell: Atoms, wayward: LabellerSpec) -> None:
    charged = replace(wayward, settings=json.dumps(PARAMETERS | {"charge": 1}))
    ion = cell.copy()
    ion.info["charge"] = 1
    assert isinstance(make_labeller(charged).label(ion), Label)
    assert isinstance(make_labeller(at_charge(charged, 0, 0)).label(cell), Label)
    for spec, atoms in ((wayward, ion), (charged, cell)):
        outcome = make_labeller(spec).label(atoms)
        assert isinstance(outcome, LabelFailed)
        assert outcome.reason == "input"
        assert "told by its parameters alone" in outcome.message
    doublet = cell.copy()
    doublet.info["multiplicity"] = 2
    with pytest.raises(FailedCalculation, match=r"input: .* multiplicity 2") as failed:
        labeller_calculator(wayward).get_potential_energy(doublet)
    assert str(pickle.loads(pickle.dumps(failed.value))) == str(failed.value)  # it may have to leave a worker


def test_packages_of_this_environment_do_not_leak(other: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "wayward.py").write_text("raise ImportError('the wrong one')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    make_labeller(replace(LJ, calculator="wayward:Wayward", python=str(other), walltime_s=16.0))
