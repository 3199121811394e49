"""Memory that runs out: the errors of what allocates, on more than any machine has."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable

import numpy as np
import pytest
import torch

from components.errors import UserError
from components.shortage import shortage

HUGE = 1 << 46

ALLOCATORS: dict[str, Callable[[], object]] = {
    "bytes": lambda: bytearray(HUGE),
    "array": lambda: np.ones(HUGE),
    "tensor": lambda: torch.ones(HUGE),
    "mapping": lambda: mmap.mmap(-1, HUGE << 15),
}

REMEDIES = {
    "train": "lower train.train_batch_size",
    "evaluate": "lower evaluate.batch_size or evaluate.workers, or give it more memory",
    "convert": "set convert.compare_images to false",
    "crop": "fewer processor cores",
    "generate": "lower --batch-size",
    "snapshot": "ran out",
}


@pytest.mark.parametrize("allocate", ALLOCATORS)
@pytest.mark.parametrize("step", REMEDIES)
def test_whatever_allocates_what_the_step_can_do_is_told(allocate: str, step: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each library has its own
        ALLOCATORS[allocate]()
    found = shortage(caught.value, step)
    assert found is not None
    assert found.status == 2
    assert str(found).startswith("memory ran out (")
    assert REMEDIES[step] in str(found)
    assert len(str(found).splitlines()) == 1


# As the libraries put it where it happened; what they take to say it is a GPU, or a machine without memory.
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of …"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_of_a_gpu_it_is_said_to_be_the_gpus(error: Exception) -> None:
    said = str(shortage(error, "train"))
    assert said.startswith("the GPU's memory ran out (")
    assert "train.use_lora to true, or give it a GPU with more" in said


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("can't start new thread"),
        RuntimeError("could not create a primitive"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("unable to mmap 3932028 bytes from file </chips/cuda/x.safetensors>: Cannot allocate memory (12)"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
)
def test_libraries_say_it_in_errors_of_other_types(error: Exception) -> None:
    assert str(shortage(error, "crop")).startswith("memory ")


def _read(allocate: Callable[[], object]) -> None:
    """As readers do that take any error for a damaged file."""
    try:
        allocate()
    except (RuntimeError, MemoryError):
        raise UserError("x: damaged; fetch it again") from None


def test_a_reader_that_took_it_for_a_damaged_file_is_corrected() -> None:
    with pytest.raises(UserError) as caught:
        _read(lambda: torch.ones(HUGE))
    assert "memory ran out" in str(shortage(caught.value, "convert"))


def test_a_file_that_claims_to_be_huge_is_what_its_reader_says() -> None:
    with pytest.raises(UserError) as caught:
        _read(lambda: bytearray(HUGE))
    assert shortage(caught.value, "crop") is None


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a defect"),
        RuntimeError("size mismatch"),
        RuntimeError("could not create a primitive descriptor for a convolution forward propagation primitive"),
        ImportError("x.so: failed to map segment from shared object: Operation not permitted"),
        OSError(errno.ENOENT, "out of memory, says the name", "x"),
        UserError("model: it runs out of memory on this GPU; lower it"),
    ],
)
def test_other_errors_are_what_they_were(error: Exception) -> None:
    assert shortage(error, "train") is None
