"""What the replay head remembers of the foundation: of means over seeds, with their errors."""

from pathlib import Path

import pytest
import strategies as benchmark

from curator.learners.foundation import MINI_HALIDES, load_foundation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
EPOCHS = 20
SEEDS = range(1, 7)
"""Three are too few: of pseudolabels they say +3 ± 27 %, for a few frames with atoms pushed together scatter."""


@pytest.mark.parametrize("name", ["multihead_replay", "pseudolabel_replay", "replay_lora"])
def test_replay_head_keeps_what_the_foundation_knew(name: str, tmp_path: Path) -> None:
    """Fine-tuned to another level of theory, it stays within a quarter of the foundation's error on unseen frames.

    The whole 95 % intervals over six seeds do, of all frames and of the median frame; the target's head goes far from
    it, to the other level of theory.
    """
    foundation = load_foundation(MINI_HALIDES, device="cpu")
    frames = {part: benchmark.labelled_frames(tmp_path / part, foundation, part) for part in benchmark.FRAMES}
    before = benchmark.errors(foundation, frames)
    tuned = [benchmark.tuned(foundation, frames["train"], name, seed, EPOCHS)[0] for seed in SEEDS]
    after = [benchmark.errors(model, frames) for model in tuned]
    for part in ("", f", {benchmark.MEDIAN}"):
        known = [before[f"probe{part}"]] * len(after)
        more, half = benchmark.excess([errors[f"replay head{part}"] for errors in after], known)
        print(f"{name}{part}: {more:+.0f} ± {half:.0f} %")
        assert more + half < 100 * benchmark.KEPT
        assert min(errors[f"probe{part}"] for errors in after) > 2 * known[0]
