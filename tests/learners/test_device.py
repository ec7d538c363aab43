"""Where models run, and what a GPU must keep to."""

import numpy as np
import pytest
import torch

from curator.datasets.frame import Frame
from curator.learners.device import device_of
from curator.learners.mace import MaceModel

with_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused() -> None:
    assert device_of("auto") == device_of("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="there is no GPU here that PyTorch can use; choose auto or cpu"):
        device_of("cuda")


def test_a_model_that_is_there_already_is_not_copied(model: MaceModel) -> None:
    assert model.to(str(model.device)) is model


@with_gpu
def test_auto_is_the_gpu_and_numbers_are_those_of_the_cpu_and_always_the_same(
    model: MaceModel, frames: list[Frame]
) -> None:
    on_gpu = model.to("auto")
    assert on_gpu.device.type == "cuda"
    assert on_gpu.to("cuda") is on_gpu
    first, again = (on_gpu.predict(frames)[-1] for _ in range(2))
    assert first.energy == again.energy
    assert np.array_equal(first.forces, again.forces)
    (expected,) = model.to("cpu").predict(frames)
    assert np.allclose(first.forces, expected.forces, atol=1e-5)
