"""What every strategy must keep: physics, frozen weights, restarts, and the energies of elements it never saw."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from mace.tools import AtomicNumberTable
from mace.tools.finetuning_utils import load_foundations_elements

from curator.datasets.frame import frame_from_atoms
from curator.datasets.label import Label, Record
from curator.learners.architecture import Architecture, Head, build_module, with_heads
from curator.learners.base import check_model
from curator.learners.e0 import choose_e0s
from curator.learners.graphs import Graph
from curator.learners.loop import TrainingRun
from curator.learners.lora import is_adapter
from curator.learners.mace import MaceModel, load_model
from curator.learners.replay import pseudolabelled
from curator.learners.samples import Sample, make_samples
from curator.learners.strategies import STRATEGIES, Strategy, strategy
from curator.learners.train import FitReport, check_start, fit

NAMES = tuple(STRATEGIES["small_data"])
# Sodium is known to the foundation and in no frame of the target.
FOUNDATION = Architecture(
    (3, 9, 11),
    r_max=3.2,
    heads=(Head("target", (-1.25, -3.5, -0.75), scale=1.5, shift=0.1),),
    avg_num_neighbors=12.0,
    hidden_irreps="8x0e",
    max_ell=1,
    mlp_irreps="4x0e",
    radial_mlp=(8,),
    pair_repulsion=True,
)
SHIFT = {3: 1.5, 9: -0.5}
Fitted = tuple[MaceModel, FitReport]


@pytest.fixture(scope="module")
def base() -> MaceModel:
    return MaceModel(FOUNDATION, build_module(FOUNDATION, seed=3, dtype=torch.float64))


@pytest.fixture(scope="module")
def target(base: MaceModel, records: list[Record]) -> list[Record]:
    """Forces of the Fumi-Tosi potential; energies of the foundation with other energies of the atoms."""
    few = records[:6]
    return [
        dataclasses.replace(r, label=Label(p.energy + sum(SHIFT[z] for z in r.frame.numbers), r.label.forces, None, ""))
        for r, p in zip(few, base.predict([r.frame for r in few], ("energy",)), strict=True)
    ]


@pytest.fixture(scope="module")
def tune(base: MaceModel, target: list[Record], records: list[Record]) -> Callable[..., Fitted]:
    def run(name: str, *, plan: Strategy | None = None, **options: object) -> Fitted:
        plan = plan or strategy(name, max_epochs=2)
        replayed = records[6:9] if plan.replay == "data" else pseudolabelled(records[6:9], base)
        return fit(
            base if plan.from_foundation else None,
            target[:4],
            target[4:],
            plan,
            seed=0,
            replay_train=replayed[:2],
            replay_valid=replayed[2:],
            architecture=None if plan.from_foundation else FOUNDATION,
            **options,  # type: ignore[arg-type]
        )

    return run


@pytest.fixture(scope="module")
def tuned(tune: Callable[..., Fitted]) -> dict[str, Fitted]:
    return {name: tune(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_symmetry_derivatives_and_files(name: str, tuned: dict[str, Fitted], target: list[Record]) -> None:
    """Rotations, reflections, translations, permutations within 1e-10; forces and stress against differences."""
    model = tuned[name][0].double()
    molecule = frame_from_atoms(Atoms("LiFNa", [[0, 0, 0], [1.6, 0.1, 0], [0.3, 2.1, 0.4]]))
    load = load_model if name == "replay_lora" else None
    check_model(model, [target[1].frame, molecule], np.random.default_rng(0), load=load, tolerance=1e-10)


@pytest.fixture(scope="module")
def untrained(base: MaceModel) -> dict[int, torch.nn.Module]:
    """The foundation with one head and with two equal ones."""
    names = ["target", "replay"]
    return {n: with_heads(base.module, base.architecture, [0] * n, names[:n])[0] for n in (1, 2)}


def may_change(name: str, plan: Strategy, module: torch.nn.Module) -> bool:
    """Whether the strategy may change a parameter of this name, worked out from the modules it says it trains."""
    if plan.name.startswith("freeze"):
        frozen = [module.node_embedding, module.radial_embedding, module.interactions]
        frozen += [module.products] if plan.name == "freeze_products" else []
        ids = {id(p) for part in frozen for p in part.parameters()}
        return id(dict(module.named_parameters())[name]) not in ids
    if plan.lora_rank:
        return name.endswith("weight") and ("linear" in name or "conv_tp_weights" in name)
    return True


@pytest.mark.parametrize("name", [name for name in NAMES if name != "scratch"])
def test_trains_what_its_row_says(name: str, tuned: dict[str, Fitted], untrained: dict[int, torch.nn.Module]) -> None:
    model, report = tuned[name]
    plan = strategy(name)
    before = untrained[len(model.heads)]
    after = model.module
    allowed = [(n, p) for n, p in before.named_parameters() if may_change(n, plan, before)]
    changed = {n for n, p in before.named_parameters() if not torch.equal(p, after.get_parameter(n))}
    assert changed
    assert changed <= {n for n, _ in allowed}
    assert report.n_parameters == sum(p.numel() for p in before.parameters())
    if plan.lora_rank:
        assert report.n_trainable == sum(f.numel() for f in report.adapters.values())
        assert report.n_trainable < report.n_parameters
    else:
        assert report.n_trainable == sum(p.numel() for _, p in allowed)
        assert not report.adapters
    assert not any(is_adapter(n) for n in model.module.state_dict())
    buffers = dict(before.named_buffers())
    same = [n for n, b in after.named_buffers() if n in buffers and torch.equal(b, buffers[n])]
    assert {n for n in buffers if n not in same} == {"atomic_energies_fn.atomic_energies"}


def test_shares_are_ordered(tuned: dict[str, Fitted]) -> None:
    n = {name: report.n_trainable for name, (_, report) in tuned.items()}
    assert n["freeze_products"] < n["freeze_interactions"] < n["naive"]
    assert n["scratch"] == n["naive"] == tuned["naive"][1].n_parameters
    assert n["pseudolabel_replay"] == n["multihead_replay"] == tuned["multihead_replay"][1].n_parameters


class Killed(Exception):
    """The process is no more."""


@pytest.mark.parametrize("name", NAMES)
def test_run_killed_at_any_step_goes_on_bit_for_bit(
    name: str,
    tuned: dict[str, Fitted],
    tune: Callable[..., Fitted],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"checkpoint": tmp_path / "checkpoint", "checkpoint_interval_s": 0.0}
    plan = strategy(name)
    n_steps = (6 if plan.replay != "none" else 4) // plan.batch_size
    last = int(np.random.default_rng(NAMES.index(name)).integers(2 * n_steps))
    steps = iter(range(last))
    step = TrainingRun._step

    def killed(run: TrainingRun, samples: Sequence[Sample]) -> float:
        if next(steps, None) is None:
            raise Killed
        return step(run, samples)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "_step", killed)
        with pytest.raises(Killed):
            tune(name, **options)
    done: list[int] = []
    model, report = tune(name, on_event=lambda event: done.append(event.epoch), **options)
    undisturbed, expected = tuned[name]
    # An epoch that was broken off is done again.
    assert done == ([1, 2] if last < n_steps else [2])
    assert model.hash == undisturbed.hash
    assert report.curve == expected.curve
    assert all(torch.equal(report.adapters[n], factor) for n, factor in expected.adapters.items())


@pytest.mark.parametrize("name", [name for name in NAMES if name != "scratch"])
def test_absent_element_keeps_the_foundations_energy(
    name: str, tuned: dict[str, Fitted], untrained: dict[int, torch.nn.Module], base: MaceModel
) -> None:
    model, report = tuned[name]
    assert report.e0.values[11] == base.e0s()[11] == model.e0s()[11]
    assert report.e0.values[3] == pytest.approx(base.e0s()[3] + SHIFT[3], abs=1e-9)
    sodium = frame_from_atoms(Atoms("Na"))
    # Before training: the tuned model's heads and E0s with the foundation's weights.
    started = MaceModel(model.architecture, untrained[len(model.heads)])
    assert started.predict([sodium])[0].energy == pytest.approx(base.predict([sodium])[0].energy, abs=1e-12)


def test_mace_discards_the_estimate_and_the_start_check_notices(base: MaceModel, target: list[Record]) -> None:
    """mace's own function puts the foundation's E0s back over those a model was built with (mace 0.3.16)."""
    estimate = choose_e0s("estimated", target, model=base, elements=base.elements)
    head = dataclasses.replace(FOUNDATION.heads[0], e0s_eV=tuple(estimate.values[z] for z in base.elements))
    wanted = dataclasses.replace(FOUNDATION, heads=(head,))
    module = build_module(wanted, seed=0, dtype=torch.float64)
    ours, _ = with_heads(base.module, base.architecture, [0], ["target"])
    load_foundations_elements(
        module, ours, AtomicNumberTable(list(base.elements)), load_readout=True, max_L=0, default_dtype=torch.float64
    )
    held = module.atomic_energies_fn.atomic_energies.numpy().ravel()
    np.testing.assert_allclose(held, FOUNDATION.heads[0].e0s_eV)
    graphs: dict[str, Graph] = {}
    samples = make_samples(target, wanted, 0, graphs)
    assert estimate.start_energy_rmse == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match=r"start \d+ meV/atom off the labels where the chosen E0s promise 0"):
        check_start(module, wanted, samples, estimate.start_energy_rmse or 0.0)
    # The same estimate, where we put it.
    model, report = fit(base, target, target, strategy("naive", max_epochs=0), seed=0)
    assert model.e0s() == estimate.values
    assert report.start_energy_rmse["target"] < 1e-6
    check_start(model.module, model.architecture, samples, 0.0)
