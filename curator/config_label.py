"""The section ``label`` of the campaign file: where labels come from."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from curator.section import Section

_ANYWHERE = ("kind", "also")
_EV = ("functional", "cutoff_eV", "kpoint_spacing_per_A", "convergence_eV", "smearing_eV", "setups")
KEYS: dict[str, tuple[str, ...]] = {
    "pseudolabel": ("model",),
    "classical": ("model",),
    "semiempirical": ("model",),
    "ase": ("code", "calculator", "parameters", "method", "python", "walltime_h"),
    "espresso": (
        "code",
        "preset",
        "pseudopotentials",
        "cutoff_Ry",
        "kpoint_spacing_per_A",
        "convergence_Ry",
        "smearing_Ry",
        "input_data",
        "command",
        "walltime_h",
    ),
    "vasp": ("code", "preset", "pseudopotentials", *_EV, "incar", "command", "walltime_h"),
    "gpaw": ("code", "preset", *_EV, "command", "walltime_h"),
}
"""Keys that mean something to a kind of label or, where it has one, to its code; ``ase`` goes with every kind."""


class Label(Section):
    """Where labels come from."""

    kind: Literal["pseudolabel", "classical", "semiempirical", "dft"] = Field(
        "pseudolabel", description="Kind of source."
    )
    model: str = Field(
        "chgnet:r2scan",
        description="chgnet:r2scan, chgnet:0.3.0, chgnet:0.2.0, a MACE model; classical: lif-fumi-tosi; "
        "semiempirical: gfn1-xtb, gfn2-xtb.",
    )
    code: Literal["espresso", "vasp", "gpaw", "ase"] | None = Field(
        None, description="dft: the program that calculates, espresso by default; ase, of any kind: an ASE calculator."
    )
    calculator: str | None = Field(
        None, pattern=r"^[\w.]+:[\w.]+$", description="ase: what makes the calculator, as module:Class."
    )
    parameters: dict[str, Any] = Field(
        {}, description="ase: its keyword parameters; the name of a file counts from here, and by its content."
    )
    method: str | None = Field(
        None, pattern=r"^[\w.+-]+$", description="ase: name of the level of theory of its labels, such as dpa3."
    )
    python: str | None = Field(
        None, description="ase: interpreter of another Python environment, the one that has the calculator."
    )
    also: str | None = Field(
        None,
        description="A second model, such as chgnet:r2scan, that labels every frame too, for comparison: nothing is "
        "trained on its labels.",
    )
    preset: Literal["pbe", "pbe-strict", "pbe-quick"] = Field(
        "pbe", description="dft: cutoff, k-points and convergence of insulators; the keys below override it."
    )
    pseudopotentials: str | dict[str, str] | None = Field(
        None,
        description="espresso: folder of UPF files whose names begin with the element, or a file by element; "
        "vasp: folder of a library such as potpaw_PBE.64, or a POTCAR by element.",
    )
    cutoff_Ry: float | None = Field(None, gt=0, description="espresso: plane-wave cutoff of the orbitals in Ry.")
    kpoint_spacing_per_A: float | None = Field(
        None, gt=0, description="dft: largest distance of k-points in 1/Å, with the factor 2π."
    )
    convergence_Ry: float | None = Field(
        None, gt=0, description="espresso: error of the energy in Ry at which a calculation ends."
    )
    smearing_Ry: float = Field(
        0.0, ge=0, description="espresso: Gaussian smearing in Ry; 0 for the fixed occupations of an insulator."
    )
    input_data: dict[str, dict[str, Any]] = Field(
        {}, description="espresso: further input of pw.x by namelist, such as system: {input_dft: pbesol}."
    )
    functional: str = Field(
        "pbe", description="vasp: lda, pbe, pbesol, rpbe, scan, r2scan; gpaw: lda, pbe, rpbe, revpbe."
    )
    cutoff_eV: float | None = Field(None, gt=0, description="vasp, gpaw: plane-wave cutoff in eV.")
    convergence_eV: float | None = Field(
        None, gt=0, description="Change of the energy in eV at which a calculation ends; gpaw: per valence electron."
    )
    smearing_eV: float = Field(
        0.0, ge=0, description="vasp, gpaw: Gaussian smearing in eV; 0 for the full and empty levels of an insulator."
    )
    setups: dict[str, str] = Field(
        {}, description="Variants by element; vasp: folders of the library, such as Li: Li_sv; gpaw: names, as Ti: v3."
    )
    incar: dict[str, Any] = Field({}, description="vasp: further tags of INCAR, such as IVDW: 12.")
    command: str | None = Field(
        None,
        description="How the program is run. espresso: pw.x, or mpirun -np 4 pw.x -nk 2; vasp: vasp_std, or mpirun -np "
        "16 vasp_std; gpaw: a Python that has it, env/bin/python, or mpirun -np 4 env/bin/gpaw python.",
    )
    walltime_h: float = Field(24.0, gt=0, description="dft, ase: longest time of one calculation in hours.")

    @model_validator(mode="after")
    def _keys_of_the_kind(self) -> Self:
        kind = (self.code or "espresso") if self.kind == "dft" or self.code == "ase" else self.kind
        fields = type(self).model_fields.items()
        given = {name for name, field in fields if getattr(self, name) != field.get_default()}
        strange = sorted(given - {*_ANYWHERE, *KEYS[kind]})
        if strange:
            raise ValueError(f"{strange[0]} means nothing to {kind}, which knows {', '.join(KEYS[kind])}; leave it out")
        if kind == "ase" and not (self.calculator and self.method):
            raise ValueError("ase needs calculator, such as ase.calculators.emt:EMT, and method, a name for its theory")
        return self
