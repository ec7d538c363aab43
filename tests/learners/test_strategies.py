import pytest

from curator.learners.strategies import STRATEGIES, LossWeights, UnusedOverrideError, strategy


def test_paper_column_is_table_7_of_the_paper() -> None:
    table = {name: (row.learning_rate, row.ema_decay, row.clip_norm) for name, row in STRATEGIES["paper"].items()}
    assert table == {
        "scratch": (1e-2, 0.99, 10.0),
        "naive": (1e-3, 0.999, 1.0),
        "freeze_interactions": (1e-3, 0.999, 1.0),
        "freeze_products": (1e-3, 0.999, 1.0),
        "lora": (1e-2, 0.99, 10.0),
        "multihead_replay": (1e-4, 0.9999, 1.0),
        "pseudolabel_replay": (1e-4, 0.9999, 1.0),
        "replay_lora": (1e-3, 0.999, 10.0),
    }
    for row in STRATEGIES["paper"].values():
        assert (row.target, row.replay_weights) == (LossWeights(10, 10, 1), LossWeights(1, 10, 1))
        assert (row.huber_delta, row.weight_decay, row.amsgrad, row.schedule) == (0.01, 0.0, True, "constant")


def test_columns_hold_the_same_rows() -> None:
    assert STRATEGIES["paper"].keys() == STRATEGIES["small_data"].keys()
    for column in STRATEGIES.values():
        for name, row in column.items():
            assert row.name == name
            assert row.replay == STRATEGIES["paper"][name].replay
            assert row.trainable == STRATEGIES["paper"][name].trainable
            assert row.lora_rank == STRATEGIES["paper"][name].lora_rank


def test_overrides_replace_values() -> None:
    row = strategy("naive", "paper", learning_rate=0.5, max_epochs=3)
    assert (row.learning_rate, row.max_epochs, row.ema_decay) == (0.5, 3, 0.999)


@pytest.mark.parametrize(
    ("arguments", "options", "complaint"),
    [
        (("magic",), {}, "unknown strategy 'magic'; known are scratch, naive, freeze_interactions"),
        (("naive", "huge"), {}, "unknown defaults 'huge'; known are paper, small_data"),
        (("naive",), {"lr": 1.0}, "a strategy has no lr; it has"),
    ],
)
def test_unknown_values_are_listed(arguments: tuple[str, ...], options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        strategy(*arguments, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{"lora_rank": 4}, {"lora_alpha": 2.0}, {"replay_per_epoch": 8}])
def test_what_a_row_has_no_use_for_is_refused(given: dict[str, float]) -> None:
    (key,) = given
    for name in ("scratch", "naive", "freeze_products"):
        with pytest.raises(UnusedOverrideError, match=f"{name} .*; drop it, or take") as told:
            strategy(name, **given)
        assert told.value.key == key
    assert getattr(strategy("replay_lora", **given), key) == given[key]


def test_schedules() -> None:
    exponential = strategy("naive", learning_rate=0.1, schedule="exponential", lr_decay=0.5)
    assert [exponential.learning_rate_at(i) for i in range(3)] == pytest.approx([0.1, 0.05, 0.025])
    cosine = strategy("naive", learning_rate=0.1, schedule="cosine", lr_decay=0.01, max_epochs=10)
    assert cosine.learning_rate_at(0) == pytest.approx(0.1)
    assert cosine.learning_rate_at(5) == pytest.approx(0.1 * (0.01 + 0.99 / 2))
    assert cosine.learning_rate_at(10) == pytest.approx(0.001)
    constant = strategy("naive", learning_rate=0.1, schedule="constant")
    assert constant.learning_rate_at(7) == 0.1
