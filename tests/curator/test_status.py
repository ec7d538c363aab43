import pytest

from curator.state import Json
from curator.status import status_lines


def told(purchase: Json, *, diffusion: list[Json]) -> list[str]:
    round_ = {
        "round": 4,
        "n_labels_total": 90,
        "force_rmse_eV_per_A": {"model": 0.05, "foundation": 0.2},
        "barrier_eV": None,
        "barrier_reference_eV": None,
        "diffusion": diffusion,
        "arrhenius": None,
    }
    content = {
        "name": "lif",
        "verdict": "undetermined",
        "reasons": ["why"],
        "next_purchase": purchase,
        "rounds": [round_],
    }
    return status_lines(content)


def test_labels_are_named_once():
    assert "  next purchase: 20 labels" in told({"kind": "labels", "amount": 20.0, "unit": "labels"}, diffusion=[])


@pytest.mark.parametrize("purchase", [None, {"kind": "none", "amount": 0.0, "unit": ""}])
def test_nothing_to_buy_is_not_mentioned(purchase: Json):
    assert "next purchase" not in "\n".join(told(purchase, diffusion=[]))


def test_md_comes_with_the_duration_to_write():
    point = {"status": "bound", "bound_A2_per_ps": 0.1, "hops": 2.0, "time_ps": 40.0, "n_trajectories": 2}
    purchase = {"kind": "md", "amount": 121.0, "unit": "ps"}
    # Four trajectories share 80 ps that are there and 121 ps more: 50.25 ps each.
    lines = told(purchase, diffusion=[{**point, "temperature_K": T} for T in (700, 1000)])
    assert (
        "  next purchase: 121 ps of MD, all temperatures and replicas together, on top of what there is: "
        "raise measure.diffusion.duration_ps to 51"
    ) in lines
    assert "  next purchase: 121 ps of MD, all temperatures and replicas together" in told(purchase, diffusion=[])
