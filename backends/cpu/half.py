"""float16 models: the graph computes in float32 and rounds at its outputs, since no kernel here is faster in half precision."""

from __future__ import annotations

import numpy as np

from ...engine.graph import Graph
from ..common.half import compute_in

HALF, SINGLE = np.dtype(np.float16), np.dtype(np.float32)


def compute_half_in_single(graph: Graph) -> Graph:
    """The same signature; inside, every float16 is a float32."""
    return compute_in(graph, SINGLE, instead_of=HALF)
