"""Any ASE calculator, in a process and perhaps a Python environment of its own.

The other process runs ``foreign_server.py`` under ``leash.py``: it lives no longer than this one, and neither what the
calculator prints nor how it dies does any harm here.
"""

import errno
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from curator.backends import foreign_server, leash
from curator.backends.base import FailureReason, LabellerSpec
from curator.backends.calculator import FailedCalculation, WholeCalculator
from curator.backends.foreign_server import PROTOCOL
from curator.backends.program import OUT_OF_MEMORY, scratch_of
from curator.datasets.digest import sha256_of
from curator.datasets.label import Theory

_cached_sha256 = lru_cache(maxsize=16)(sha256_of)

PROPERTIES = ("energy", "forces", "stress")
WRITTEN_TO = ("directory", "label")
"""ASE's names for where a calculator writes, which is never taken to be a file or folder that is there already."""
TAIL_BYTES = 2000
PATIENCE_S = 10.0


class ForeignError(ValueError):
    """The calculator cannot be had. It says nothing of the frame, which may be tried again."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """An ASE calculator somewhere.

    Attributes
    ----------
    calculator
        What makes it, as ``module:Class``; ``module:function`` and ``module:Class.method`` will do.
    parameters
        JSON object with its keyword arguments.
    python
        Interpreter of its environment; this one if empty.
    walltime_s
        Longest time of one calculation, and of the start, in seconds.
    scratch
        Folder in which its process gets an empty one to work in, which goes with it.
    modules
        Folder whose modules can be imported as well; none if empty.
    """

    calculator: str
    parameters: str
    python: str
    walltime_s: float
    scratch: Path
    modules: str


class ForeignCalculator(WholeCalculator):
    """ASE calculator that asks another process; those of one `Foreign` share it.

    Attributes
    ----------
    versions
        Versions of ASE and of the calculator's package in its environment.
    cpu_s
        CPU seconds that the other process took for the last calculation.

    Raises
    ------
    ForeignError
        If it cannot be made.
    """

    def __init__(self, source: Foreign, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._source = source
        self._told = json.loads(source.parameters)
        hello = _process(source).start()
        self.versions: dict[str, str] = hello["versions"]
        self.implemented_properties = [name for name in PROPERTIES if name in hello["properties"]]
        self.cpu_s = 0.0
        if not {"energy", "forces"} <= set(self.implemented_properties):
            raise ForeignError(f"{source.calculator} has no forces, but only: {', '.join(hello['properties'])}")

    def evaluate(self, atoms: Atoms) -> dict[str, Any]:
        """Energy, forces and, where the calculator has one and the cell is periodic, stress of ``atoms``."""
        self._check_charge(atoms)
        properties = self.implemented_properties if atoms.pbc.all() else ["energy", "forces"]
        answer = _process(self._source).ask(
            {
                "numbers": atoms.numbers.tolist(),
                "positions": atoms.positions.tolist(),
                "cell": atoms.cell.array.tolist(),
                "pbc": atoms.pbc.tolist(),
                "properties": properties,
            }
        )
        if "error" in answer:
            if f"[Errno {errno.ENOSPC}]" in answer["error"]:
                raise ForeignError(answer["error"])
            raise FailedCalculation(_reason(answer["error"]), answer["error"])
        self.cpu_s = answer["cpu_s"]
        energy, forces = answer["energy"], np.array(answer["forces"], dtype=float)
        results = {"energy": energy, "free_energy": energy, "forces": forces}
        if answer["stress"] is not None:
            results["stress"] = np.array(answer["stress"], dtype=float)
        for name, shape in (("forces", (len(atoms), 3)), ("stress", (6,))):
            if name in results and results[name].shape != shape:
                raise FailedCalculation("parse", f"{name} have shape {results[name].shape}, not {shape}")
        return results

    def _check_charge(self, atoms: Atoms) -> None:
        charge, multiplicity = (atoms.info.get(name, 0) for name in ("charge", "multiplicity"))
        wrong = charge != self._told.get("charge", 0) or multiplicity not in (0, self._told.get("multiplicity"))
        if wrong:
            raise FailedCalculation(
                "input",
                f"the frame has charge {charge} and multiplicity {multiplicity}, of which an ASE calculator is told "
                "by its parameters alone; give the two the same",
            )


def make_foreign(spec: LabellerSpec) -> tuple[Theory, ForeignCalculator]:
    """Level of theory and calculator of a spec.

    A parameter that names a file counts by the content of the file, wherever that is, and so does the calculator's own
    module where it lies in the spec's folder.

    Raises
    ------
    ForeignError
        If the calculator cannot be made.
    """
    folder = Path(spec.folder).absolute()

    def absolute(text: str) -> str:
        return str(_named(text, folder) or text)

    def by_content(text: str) -> str:
        path = _named(text, folder)
        return text if path is None or path.is_dir() else _cached_sha256(path)

    parameters = json.loads(spec.settings)
    told = json.dumps(_with_texts(parameters, absolute), sort_keys=True)
    calculator = ForeignCalculator(
        Foreign(spec.calculator, told, spec.python, spec.walltime_s, scratch_of(spec), spec.folder)
    )
    settings = _with_texts(parameters, by_content)
    files = [name for name, value in parameters.items() if isinstance(value, str) and settings[name] != value]
    hashes = {name: settings.pop(name) for name in files}
    module = folder.joinpath(*spec.calculator.partition(":")[0].split(".")).with_suffix(".py")
    if spec.folder and module.is_file():
        hashes[module.name] = _cached_sha256(module)
    theory = Theory(
        method=spec.model, code=spec.calculator, settings=settings, hashes=hashes, versions=calculator.versions
    )
    return theory, calculator


def _with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Parameters with every text changed but those that tell where to write."""
    if isinstance(value, dict):
        return {name: each if name in WRITTEN_TO else _with_texts(each, change) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_texts(each, change) for each in value]
    return change(value) if isinstance(value, str) else value


def _named(text: str, folder: Path) -> Path | None:
    """The file that a text names, or the folder if it is written with a slash; None if there is no such."""
    path = folder / text
    with suppress(OSError):  # of a text too long for a name
        if path.is_file() or ("/" in text and path.is_dir()):
            return path
    return None


def _reason(error: str) -> FailureReason:
    """Kind of failure that an exception tells of."""
    if error.startswith("SCFError"):
        return "scf"
    return "memory" if OUT_OF_MEMORY.search(error) else "crash"


class _Process:
    """The other process: started when it is needed, and again after it died."""

    def __init__(self, source: Foreign) -> None:
        self._source = source
        self._running: subprocess.Popen[bytes] | None = None
        self._hello: dict[str, Any] = {}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115

    def start(self) -> dict[str, Any]:
        """What the calculator said of itself, which is started if it does not run.

        Raises
        ------
        ForeignError
            If it cannot be started.
        """
        if self._running is not None:
            if self._running.poll() is None:
                return self._hello
            self._stop()  # it died between two requests, and no frame is to blame
        source = self._source
        python = source.python or sys.executable
        if shutil.which(python) is None:
            raise ForeignError(f"python: there is no interpreter {python}; give that of an environment with ASE")
        try:
            source.scratch.mkdir(parents=True, exist_ok=True)
            scratch = tempfile.mkdtemp(prefix="ase-", dir=source.scratch)
        except OSError as error:
            raise ForeignError(f"{source.calculator} has no folder to work in: {error}") from error
        server = [*_interpreter(python), foreign_server.__file__, scratch, *filter(None, [source.modules])]
        command = [sys.executable, leash.__file__, "inf", leash.REMOVE, scratch, *server]
        self._log.seek(0)
        self._log.truncate()
        # A session of its own keeps Ctrl-C at the terminal from it; the leash ends it if this process does.
        self._running = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, start_new_session=True
        )
        weakref.finalize(self, _end, self._running)
        request = {"protocol": PROTOCOL, "calculator": source.calculator, "parameters": json.loads(source.parameters)}
        try:
            answer = self._exchange(request)
        except FailedCalculation as error:
            raise ForeignError(f"{source.calculator} cannot be made in {python}: {error.message}") from error
        if "error" in answer or answer.get("protocol") != PROTOCOL:
            self._stop()
            said = answer.get("error", f"it speaks protocol {answer.get('protocol')}, not {PROTOCOL}")
            raise ForeignError(f"{source.calculator} cannot be made in {python}: {said}")
        self._hello = answer
        return answer

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer to a request.

        Raises
        ------
        FailedCalculation
            If the process dies of it or takes too long; the next request goes to a new one.
        ForeignError
            If it cannot be started.
        """
        self.start()
        return self._exchange(request)

    def _exchange(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return self._answer(request)
        except TimeoutError:
            self._stop()
            raise FailedCalculation("walltime", f"no answer within {self._source.walltime_s:g} s") from None
        except (OSError, EOFError, ValueError):
            reason, message = self._why_it_died()
            self._stop()
            raise FailedCalculation(reason, message) from None
        except BaseException:
            self._stop()  # or the answer to this request would pass for that to the next
            raise

    def _why_it_died(self) -> tuple[FailureReason, str]:
        assert self._running is not None
        with suppress(subprocess.TimeoutExpired):
            self._running.wait(PATIENCE_S)  # the leash tells why, if it is given the time
        status, log = self._running.returncode, self._log.fileno()
        said = os.pread(log, TAIL_BYTES, max(0, os.fstat(log).st_size - TAIL_BYTES)).decode(errors="replace")
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        reason: FailureReason = "memory" if any(line.startswith(leash.SAID_MEMORY) for line in lines) else "crash"
        cause = "".join(f" by {each.name}" for each in signal.Signals if status == leash.KILLED_BY + each)
        return reason, f"its process ended{cause}" + (f", saying: {lines[-1][:200]}" if lines else "")

    def _answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._running is not None
        assert self._running.stdin is not None
        assert self._running.stdout is not None
        deadline = time.monotonic() + self._source.walltime_s
        self._running.stdin.write(json.dumps(request).encode() + b"\n")
        self._running.stdin.flush()
        answers, line = self._running.stdout.fileno(), b""
        while not line.endswith(b"\n"):
            if not select.select([answers], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            part = os.read(answers, 1 << 16)
            if not part:
                raise EOFError
            line += part
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _stop(self) -> None:
        if self._running is not None:
            _end(self._running)
        self._running = None


@lru_cache(maxsize=8)
def _process(source: Foreign) -> _Process:
    return _Process(source)


def _interpreter(python: str) -> list[str]:
    """Start of a command; another environment must not find packages by the variables of this one."""
    return [python] if python == sys.executable else ["env", "-u", "PYTHONPATH", "-u", "PYTHONHOME", python]


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a leash, which ends what it holds."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_S)
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            if pipe is not None:
                pipe.close()
