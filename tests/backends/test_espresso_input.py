"""Input of pw.x: what is one level of theory and what is refused."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms

from curator.backends.espresso_input import EspressoSettings, espresso_theory, input_of, numbered, read_pseudopotential

Settings = Callable[..., EspressoSettings]


def upf(path: Path, element: str, functional: str) -> str:
    header = f'<PP_HEADER element="{element}" z_valence="8" functional="{functional}"/>'
    path.write_text(f'<UPF version="2.0.1">{header}')
    return str(path)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Make settings for iron and oxygen with pseudopotentials that are headers only."""
    files = {symbol: upf(tmp_path / f"{symbol}.upf", symbol, "PBE") for symbol in ("Fe", "O")}

    def make(**changes: Any) -> EspressoSettings:
        return EspressoSettings(
            **{"pseudopotentials": files} | changes, cutoff_Ry=60.0, kpoint_spacing_per_A=0.5, convergence_Ry=1e-8
        )

    return make


@pytest.mark.parametrize(
    ("header", "short"),
    [
        ("PBE", "PBE"),
        (" SLA  PW   PBX  PBC", "PBE"),
        ("SLA-PW-PBE-PBE", "PBE"),
        ("SLA PW PSX PSC", "PBESOL"),
        ("SLA PW NOGX NOGC", "PW"),
        ("SLA PZ NOGX NOGC", "PZ"),
        ("VDW-DF2-C09", "VDW-DF2-C09"),
    ],
)
def test_a_functional_goes_by_its_short_name(tmp_path: Path, header: str, short: str):
    assert read_pseudopotential(Path(upf(tmp_path / "O.upf", "O", header))).functional == short


def test_pseudopotentials_whose_headers_say_the_same_in_other_words(tmp_path: Path, settings: Settings):
    files = dict(settings().pseudopotentials)
    long = files | {"O": upf(tmp_path / "O-long.upf", "O", " SLA  PW   PBX  PBC")}
    assert espresso_theory(settings(pseudopotentials=long), "no-pw.x").method == "pbe"
    other = files | {"O": upf(tmp_path / "O-sol.upf", "O", "SLA PW PSX PSC")}
    with pytest.raises(ValueError, match="Fe PBE, O PBESOL"):
        espresso_theory(settings(pseudopotentials=other), "no-pw.x")


def test_a_multiplicity_of_one_is_no_other_theory_than_none(settings: Settings):
    none, one, two = (espresso_theory(settings(multiplicity=n), "no-pw.x").key for n in range(3))
    assert none == one != two


def test_values_by_element_follow_the_frame(settings: Settings):
    given = settings(input_data={"system": {"vdw_corr": "grimme-d2", "london_c6": {"Fe": 4.0, "Na": 9.0}}})
    assert espresso_theory(given, "no-pw.x").settings["input"]["system"]["london_c6"] == {"Fe": 4.0, "Na": 9.0}  # type: ignore[index]
    for symbols, key in (("FeO", "london_c6(1)"), ("OFe", "london_c6(2)"), ("O2", None)):
        atoms = Atoms(symbols, [[0, 0, 0], [2, 0, 0]], cell=np.eye(3) * 4, pbc=True)
        data = numbered(input_of(given), atoms.symbols)
        assert [name for name in data["system"] if name.startswith("london_c6")] == ([key] if key else [])
        text = io.StringIO()
        names = {"Fe": "Fe.upf", "O": "O.upf"}
        ase.io.write(text, atoms, format="espresso-in", input_data=data, pseudopotentials=names)
        rows = [line.split() for line in text.getvalue().splitlines()]
        assert ([key, "=", "4.0"] in rows) == (key is not None)
        species = [row[0] for row in rows if row and row[-1] in names.values()]
        assert key is None or species[int(key[-2]) - 1] == "Fe"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("london_c6(1)", 4.0, r"london_c6\(1\): 4.0 cannot be used; give its values by element, london_c6: {Li: 0.5}"),
        ("London_rvdw(2)", 2.0, "by element, london_rvdw:"),
        ("london_c6", 4.0, "by element"),
        ("nosym", {"Li": True}, "one value"),
        ("starting_magnetization(1)", 0.5, "give system.multiplicity"),
        ("starting_ns_eigenvalue(1,1,1)", 1.0, "counts elements in the order of the frame"),
        ("ECUTWFC", 50.0, "give label.cutoff_Ry"),
    ],
)
def test_what_would_mean_another_element_in_another_frame_is_refused(
    settings: Settings, key: str, value: object, words: str
):
    with pytest.raises(ValueError, match=words):
        settings(input_data={"system": {key: value}})
