"""The ways in which PyTorch runs a network on the GPU."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable
from typing import Any

import numpy as np

from tilewright.engine.graph import Graph

PLACE, WARM = "cuda", 3
"""Where PyTorch runs, and runs before a capture."""
Once = Callable[[], Any]


@dc.dataclass(frozen=True)
class Way:
    """`begin` answers with a function that runs a module once; its batch norms were folded, and its maps have channels last, or not."""

    label: str
    begin: Callable[[Any, Any, Any], Once]
    folded: bool = True
    channels_last: bool = True


def eager(torch: Any, module: Any, given: Any) -> Once:
    """Call by call."""

    def once() -> None:
        with torch.inference_mode():
            module(given)
        torch.cuda.synchronize()

    return once


def captured(torch: Any, module: Any, given: Any) -> Once:
    """All calls as one CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM):
            module(given)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        module(given)

    def once() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return once


def max_autotune(torch: Any, module: Any, given: Any) -> Once:
    """What torch.compile makes of it, in a CUDA graph, too."""
    once = eager(torch, torch.compile(module, mode="max-autotune"), given)
    once()
    return once


WAYS = (
    Way("eager", eager, folded=False),
    Way("graph", captured, folded=False),
    Way("graph folded", captured),
    Way("graph folded NCHW", captured, channels_last=False),
)
"""In float32 without TF32, and where convolutions are depthwise, NCHW may be faster than channels last."""
COMPILED = (Way("compile folded", max_autotune),)


def peer(way: Way, precision: str, graph: Graph, x: np.ndarray) -> tuple[Once, np.ndarray]:
    """PyTorch on the same graph, its constants folded, and its output."""
    import torch  # pyright: ignore[reportMissingImports]
    from gpu_torch import torch_module

    from tilewright.engine.compiler import optimize

    module = torch_module(optimize(graph, ["fold_constants", *(["fold_batchnorm", "fold_constants"] if way.folded else [])]))
    torch.backends.cudnn.benchmark = True
    use_tf32(torch, precision == "tf32")
    form = {"memory_format": torch.channels_last} if way.channels_last else {}
    dtype = torch.float16 if precision == "fp16" else torch.float32
    module, given = module.to(PLACE, dtype, **form), torch.from_numpy(x).to(PLACE, dtype, **form)
    with torch.inference_mode():
        (found,) = module(given)
        return way.begin(torch, module, given), found.float().cpu().numpy()


def use_tf32(torch: Any, on: bool) -> None:
    """In convolutions and products, or not. PyTorch refuses names that disagree, and torch.compile reads one that the old ones leave."""
    cudnn = torch.backends.cudnn
    cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = on
    if hasattr(cudnn, "fp32_precision"):
        cudnn.fp32_precision = "tf32" if on else "ieee"


def difference(found: np.ndarray, ours: np.ndarray, precision: str) -> str:
    """What is wrong with an output, empty when nothing is."""
    error = np.abs(found - ours).max() / np.abs(ours).max()
    bound = 1e-3 if precision == "fp32" else 5e-2
    return "" if error < bound else f"its output differs from ours by {error:.2g} of the largest number, more than {bound:g}"
