"""What a MACE model is made of, as plain values, and the torch module they describe."""

import dataclasses
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

# mace prints that it found no cuequivariance, which would spoil JSON on standard output. It comes before e3nn, which
# torch 2.6 and later cannot import by itself: mace first lifts torch's loading check.
with redirect_stdout(io.StringIO()):
    import mace.modules
from e3nn import o3
from mace.modules import ScaleShiftMACE
from mace.tools.scripts_utils import extract_config_mace_model

# Fused after a few warm-up calls, TorchScript gives other last bits: results would depend on what the process had run.
torch.jit.set_fusion_strategy([])


@dataclass(frozen=True, slots=True)
class Head:
    """One readout head: a level of theory the model speaks.

    Attributes
    ----------
    name
        ``target``, ``replay``, or what the foundation model calls it.
    e0s_eV
        Energy of the isolated atom in eV of each element, in the order of ``Architecture.atomic_numbers``.
    scale, shift
        Factor (eV) and offset (eV) of the interaction energy of an atom.
    """

    name: str
    e0s_eV: tuple[float, ...]
    scale: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True, slots=True)
class Architecture:
    """Everything but the weights of a MACE model (Batatia et al., arXiv:2206.07697).

    The defaults are the small model of the embedded foundation. ``heads`` and ``avg_num_neighbors`` may be left
    empty for training from scratch, which sets them from the data.

    Attributes
    ----------
    atomic_numbers
        Elements it knows, ascending.
    r_max
        Cutoff in Å.
    heads
        Readout heads, each with its atomic energies.
    avg_num_neighbors
        Mean number of neighbours within the cutoff; normalises messages.
    pair_repulsion
        Whether the Ziegler-Biersack-Littmark repulsion is added at short distances.

    Raises
    ------
    ValueError
        If elements are not ascending, or a head has not one E0 per element.
    """

    atomic_numbers: tuple[int, ...]
    r_max: float = 4.5
    heads: tuple[Head, ...] = ()
    avg_num_neighbors: float | None = None
    n_interactions: int = 2
    hidden_irreps: str = "32x0e"
    max_ell: int = 2
    correlation: int = 2
    mlp_irreps: str = "16x0e"
    radial_mlp: tuple[int, ...] = (32, 32, 32)
    radial_type: str = "bessel"
    n_bessel: int = 8
    n_polynomial_cutoff: int = 5
    distance_transform: str = "None"
    pair_repulsion: bool = False
    interaction: str = "RealAgnosticResidualInteractionBlock"
    interaction_first: str = "RealAgnosticInteractionBlock"
    readout: str = "NonLinearReadoutBlock"
    gate: str = "silu"
    apply_cutoff: bool = True
    use_reduced_cg: bool = True
    use_so3: bool = False
    use_agnostic_product: bool = False
    use_last_readout_only: bool = False
    edge_irreps: str | None = None
    use_edge_irreps_first: bool = False
    keep_last_layer_irreps: bool = False

    def __post_init__(self) -> None:
        if list(self.atomic_numbers) != sorted(set(self.atomic_numbers)):
            raise ValueError(f"atomic_numbers must be ascending without repeats; got {self.atomic_numbers}")
        for head in self.heads:
            if len(head.e0s_eV) != len(self.atomic_numbers):
                raise ValueError(
                    f"head {head.name!r} has {len(head.e0s_eV)} E0s for {len(self.atomic_numbers)} elements"
                )

    @property
    def head_names(self) -> tuple[str, ...]:
        """Names of the heads."""
        return tuple(head.name for head in self.heads)

    def e0_table(self) -> NDArray[np.float64]:
        """E0s in eV, float64, shape ``(n_heads, n_elements)``."""
        return np.array([head.e0s_eV for head in self.heads], dtype=np.float64)


def for_elements(architecture: Architecture, numbers: NDArray[np.int32]) -> Architecture:
    """The same architecture for the elements among ``numbers``; heads and mean coordination are left to the data."""
    elements = tuple(np.unique(numbers).tolist())
    return dataclasses.replace(architecture, atomic_numbers=elements, heads=(), avg_num_neighbors=None)


def architecture_from_json(values: Mapping[str, object]) -> Architecture:
    """Inverse of ``dataclasses.asdict`` followed by a trip through JSON."""
    fields: dict[str, object] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    heads: Any = values["heads"]
    fields["heads"] = tuple(Head(**{**head, "e0s_eV": tuple(head["e0s_eV"])}) for head in heads)
    return Architecture(**fields)  # type: ignore[arg-type]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Torch's global default dtype, for the time of building a module, and put back afterwards."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def build_module(architecture: Architecture, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> ScaleShiftMACE:
    """MACE module with random weights drawn under ``seed``; torch's global generator is left as it was."""
    a = architecture
    if not a.heads or a.avg_num_neighbors is None:
        raise ValueError("a module needs heads and avg_num_neighbors; training from scratch sets them from the data")
    with torch.random.fork_rng(devices=[]), default_dtype(dtype):
        torch.manual_seed(seed)
        return ScaleShiftMACE(
            r_max=a.r_max,
            num_bessel=a.n_bessel,
            num_polynomial_cutoff=a.n_polynomial_cutoff,
            max_ell=a.max_ell,
            interaction_cls=mace.modules.interaction_classes[a.interaction],
            interaction_cls_first=mace.modules.interaction_classes[a.interaction_first],
            num_interactions=a.n_interactions,
            num_elements=len(a.atomic_numbers),
            hidden_irreps=o3.Irreps(a.hidden_irreps),
            MLP_irreps=o3.Irreps(a.mlp_irreps),
            atomic_energies=a.e0_table(),
            avg_num_neighbors=a.avg_num_neighbors,
            atomic_numbers=list(a.atomic_numbers),
            correlation=a.correlation,
            gate=mace.modules.gate_dict[a.gate],
            pair_repulsion=a.pair_repulsion,
            apply_cutoff=a.apply_cutoff,
            use_reduced_cg=a.use_reduced_cg,
            use_so3=a.use_so3,
            use_agnostic_product=a.use_agnostic_product,
            use_last_readout_only=a.use_last_readout_only,
            distance_transform=a.distance_transform,
            edge_irreps=None if a.edge_irreps is None else o3.Irreps(a.edge_irreps),
            use_edge_irreps_first=a.use_edge_irreps_first,
            radial_MLP=list(a.radial_mlp),
            radial_type=a.radial_type,
            heads=list(a.head_names),
            readout_cls=mace.modules.readout_classes[a.readout],
            keep_last_layer_irreps=a.keep_last_layer_irreps,
            atomic_inter_scale=[head.scale for head in a.heads],
            atomic_inter_shift=[head.shift for head in a.heads],
        )


def architecture_of(module: Any) -> Architecture:
    """Architecture of a module that mace has made.

    Raises
    ------
    ValueError
        If it is not a ``ScaleShiftMACE`` without additional embeddings.
    """
    kind = type(module).__name__
    if kind != "ScaleShiftMACE" or hasattr(module, "joint_embedding"):
        raise ValueError(f"cannot import a model of type {kind}: only ScaleShiftMACE without embeddings is supported")
    config = extract_config_mace_model(module)
    e0s = np.atleast_2d(np.asarray(config["atomic_energies"], dtype=np.float64))
    scale, shift = (
        np.broadcast_to(np.asarray(config[f"atomic_inter_{key}"], dtype=np.float64), len(e0s))
        for key in ("scale", "shift")
    )
    names = getattr(module, "heads", None) or ["Default"]
    gate = config["gate"]
    edge_irreps = config["edge_irreps"]
    hidden = config["hidden_irreps"]
    last = o3.Irreps(str(module.products[-1].linear.irreps_out))
    return Architecture(
        atomic_numbers=tuple(int(z) for z in config["atomic_numbers"]),
        r_max=float(config["r_max"]),
        heads=tuple(
            Head(name, tuple(map(float, e0s[i])), float(scale[i]), float(shift[i])) for i, name in enumerate(names)
        ),
        avg_num_neighbors=float(config["avg_num_neighbors"]),
        n_interactions=int(config["num_interactions"]),
        hidden_irreps=str(hidden),
        max_ell=int(config["max_ell"]),
        correlation=int(config["correlation"]),
        mlp_irreps=str(config["MLP_irreps"]),
        radial_mlp=tuple(int(n) for n in config["radial_MLP"]),
        radial_type=config["radial_type"],
        n_bessel=int(config["num_bessel"]),
        n_polynomial_cutoff=int(config["num_polynomial_cutoff"]),
        distance_transform=config["distance_transform"] or "None",
        pair_repulsion=bool(config["pair_repulsion"]),
        interaction=config["interaction_cls"].__name__,
        interaction_first=config["interaction_cls_first"].__name__,
        readout=config["readout_cls"].__name__,
        gate="None" if gate is None else str(gate.__name__),
        apply_cutoff=bool(config["apply_cutoff"]),
        use_reduced_cg=bool(config["use_reduced_cg"]),
        use_so3=bool(config["use_so3"]),
        use_agnostic_product=bool(config["use_agnostic_product"]),
        use_last_readout_only=bool(config["use_last_readout_only"]),
        edge_irreps=None if edge_irreps is None else str(edge_irreps),
        use_edge_irreps_first=bool(config["use_edge_irreps_first"]),
        keep_last_layer_irreps=len(hidden) > 1 and last == hidden,
    )


def invariant_columns(module: Any) -> list[int]:
    """Columns of a module's node features that do not change under rotation and reflection."""
    columns: list[int] = []
    offset = 0
    for product in module.products:
        irreps = o3.Irreps(str(product.linear.irreps_out))
        for part, (_, irrep) in zip(irreps.slices(), irreps, strict=True):
            if irrep.l == 0 and irrep.p == 1:
                columns += range(offset + part.start, offset + part.stop)
        offset += irreps.dim
    return columns


def with_heads(
    module: torch.nn.Module, architecture: Architecture, sources: Sequence[int], names: Sequence[str]
) -> tuple[ScaleShiftMACE, Architecture]:
    """Copy of a module whose head ``i``, called ``names[i]``, is the old head ``sources[i]``.

    ``(0, 0)`` turns one head into two equal ones, ``(1,)`` keeps the second alone. Predictions of a copied head do
    not change: e3nn normalises a linear layer by the square root of its fan-in, which the last layers' weights make
    up for.

    Returns
    -------
    tuple
        The new module, and its architecture.
    """
    old = architecture
    heads = tuple(
        dataclasses.replace(old.heads[source], name=name) for source, name in zip(sources, names, strict=True)
    )
    new = dataclasses.replace(old, heads=heads)
    parameter = next(module.parameters())
    copy = build_module(new, dtype=parameter.dtype).to(parameter.device)
    state = {
        name: _head_blocks(name, value, len(old.heads), list(sources), old.mlp_irreps)
        for name, value in module.state_dict().items()
        if not name.endswith(".output_mask")
    }
    load_state(copy, state)
    return copy, new


def load_state(module: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Copy weights into a module; every parameter must be given.

    Buffers that older versions of mace did not have are left as the architecture makes them.

    Raises
    ------
    ValueError
        If a parameter is missing, or a name or shape is unknown to the module.
    """
    own = module.state_dict()
    state = {
        name: value.reshape(own[name].shape) if name in own and value.numel() == own[name].numel() else value
        for name, value in state.items()
    }
    wrong = [name for name, value in state.items() if name in own and value.shape != own[name].shape]
    if wrong:
        raise ValueError(
            f"the weights do not fit the architecture: {wrong[0]} and {len(wrong) - 1} more differ in shape"
        )
    missing, unexpected = module.load_state_dict(state, strict=False)
    parameters = dict(module.named_parameters())
    missing = [name for name in missing if name in parameters]
    if missing or unexpected:
        raise ValueError(f"the weights do not fit the architecture: missing {missing}, unknown {unexpected}")


def _head_blocks(name: str, value: torch.Tensor, n_heads: int, sources: list[int], mlp_irreps: str) -> torch.Tensor:
    """Take from a state entry what belongs to the chosen heads."""
    n_mlp = o3.Irreps(mlp_irreps).count(o3.Irrep(0, 1))
    gain = math.sqrt(len(sources) / n_heads)
    if name.startswith(("atomic_energies_fn.", "scale_shift.")):
        return value.reshape(n_heads, -1)[sources]
    if not name.startswith("readouts.") or value.numel() == 0:
        return value
    if name.endswith(".linear.weight"):
        return value.reshape(-1, n_heads)[:, sources].flatten()
    if name.endswith(".linear_1.weight"):
        return value.reshape(-1, n_heads, n_mlp)[:, sources].flatten()
    if name.endswith((".linear_1.bias", ".linear_mid.bias")):
        return value.reshape(n_heads, n_mlp)[sources].flatten()
    if name.endswith(".linear_mid.weight"):
        blocks = value.reshape(n_heads, n_mlp, n_heads, n_mlp)[sources][:, :, sources]
        return (gain * blocks).flatten()
    if name.endswith(".linear_2.weight"):
        blocks = value.reshape(n_heads, n_mlp, n_heads)[sources][:, :, sources]
        return (gain * blocks).flatten()
    if name.endswith(".linear_2.bias"):
        return value.reshape(n_heads)[sources]
    return value
