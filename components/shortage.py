"""Memory that ran out, in the user's terms: whose it was, and what the step can do with less.

Known by what Python, torch, CUDA and the system end with where an allocation is refused. Not covered: the kernel, which
ends a process that has more memory than its pod with SIGKILL, and libraries that end theirs by themselves; neither lets
the process say a word.
"""

from __future__ import annotations

import errno
import re
import traceback

from components.errors import UserError

#: What libraries say in an error of another type, or the system in an import's; the last are oneDNN's words, whose
#: reason gets lost on the way through torch.
_SAID = re.compile(
    r"can't allocate memory|cannot allocate memory|out of memory|std::bad_alloc|_ALLOC_FAILED|"
    r"can't start new thread|failed to map segment(?!.*not permitted)|unable to mmap|os error 12\b|"
    r"could not create a (?:primitive(?! descriptor)|memory)",
    re.IGNORECASE,
)
_GPU = re.compile(r"\b(?:CUDA|HIP|cuDNN)\b|\bCUBLAS_|\bCUDNN_")

#: Step, or command, → what makes it take less memory, of the machine's and of the GPU's.
_LESS = {
    "train": "lower train.train_batch_size (train.gradient_accumulation_steps makes up for it), or set "
    "train.gradient_checkpointing or train.use_lora to true",
    "evaluate": "lower evaluate.batch_size or evaluate.workers",
    "draw": "lower evaluate.batch_size or evaluate.workers",
    "convert": "set convert.compare_images to false",
    "crop": "give it fewer processor cores, each of which has an image in memory, or the images in smaller pieces",
    "generate": "lower --batch-size",
}


def shortage(error: BaseException, who: str) -> UserError | None:
    """The message for an exception that memory is the reason of; None for another one.

    The exceptions that led to it are looked at too: readers take whatever a library raises for a damaged file. Where
    one has become a `UserError`, only what says in words that memory was refused counts: Python's own MemoryError is
    also what a file ends in that claims to be huge.

    Args:
        who: the step, or the command, that could not go on.
    """
    in_words = isinstance(error, UserError)
    found: BaseException | None = error
    while found is not None:
        if _is_shortage(found, in_words):
            # What the stack still holds may be what is missing to print a line.
            traceback.clear_frames(found.__traceback__)
            return _told(found, who)
        found = found.__cause__ or found.__context__
    return None


def _is_shortage(error: BaseException, in_words: bool) -> bool:
    if isinstance(error, UserError):
        return False
    if isinstance(error, MemoryError):
        return not in_words
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    # Each library has its own type; torch's is a RuntimeError, the loader's an ImportError.
    return _SAID.search(str(error)) is not None


def _told(error: BaseException, who: str) -> UserError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    on_gpu = _GPU.search(reason) is not None
    # The system has one error for both.
    whose = "the GPU's memory" if on_gpu else "memory (or threads)" if "new thread" in reason else "memory"
    larger = "a GPU with more" if on_gpu else "more memory (on a cluster: `memory` in its profile)"
    remedy = f"{less}, or give it {larger}" if (less := _LESS.get(who)) else f"give it {larger}"
    return UserError(f"{whose} ran out ({reason[:200]}); {remedy}")
