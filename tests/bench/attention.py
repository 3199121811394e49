"""What torch's ways of scaled dot product attention take, and how far apart: ``python -m tests.bench.attention``.

Forward and backward pass of one self-attention with the sizes of Stable Diffusion 1.x at 512 px (batch 2, 8 heads,
4,096 tokens, width 40), on the GPU where there is one; ``--tokens`` takes fewer. The difference is that of the result
from the plain way (``math``) in float32. `gpu` prints the same table.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

WAYS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
    "what torch chooses": None,
}
BATCH, HEADS, TOKENS, WIDTH = 2, 8, 4096, 40
REPEATS = 5


def passes(way: SDPBackend | None, given: list[torch.Tensor]) -> torch.Tensor:
    """The result, [batch, heads, tokens, width], after a backward pass too."""
    with sdpa_kernel(way) if way is not None else contextlib.nullcontext():
        query, key, value = given
        result = F.scaled_dot_product_attention(query, key, value)
        result.sum().backward()
    return result.detach()


def table(device: torch.device, tokens: int = TOKENS) -> list[str]:
    """A line a way and number type."""
    on_gpu = device.type == "cuda"
    draws = torch.Generator().manual_seed(0)
    drawn = [torch.randn(BATCH, HEADS, tokens, WIDTH, generator=draws).to(device) for _ in range(3)]
    plain = passes(SDPBackend.MATH, [tensor.clone().requires_grad_() for tensor in drawn])
    lines = ["| attention | numbers | ms | largest difference | peak GPU memory, GB |", "|---|---|---|---|---|"]
    for name, way in WAYS.items():
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            kind = str(dtype).removeprefix("torch.")
            given = [tensor.to(dtype, copy=True).requires_grad_() for tensor in drawn]
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            try:
                apart = float((passes(way, given).float() - plain).abs().max())
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[0][:80]
                lines.append(f"| {name} | {kind} | {'not there' if 'No available kernel' in reason else reason} | | |")
                continue
            peak = f"{torch.cuda.max_memory_allocated() / 1e9:.2f}" if on_gpu else ""
            lines.append(f"| {name} | {kind} | {1e3 * seconds(way, given):.2f} | {apart:.2g} | {peak} |")
    return lines


def seconds(way: SDPBackend | None, given: list[torch.Tensor]) -> float:
    """Median of some repeats."""
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        passes(way, given)
        if given[0].is_cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    flags.add_argument("--tokens", type=int, default=TOKENS, help=f"tokens ({TOKENS})")
    given = flags.parse_args()
    print(*table(torch.device("cuda" if torch.cuda.is_available() else "cpu"), given.tokens), sep="\n")


if __name__ == "__main__":
    main()
