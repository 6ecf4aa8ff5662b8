"""DeepFace (Taigman, Yang, Ranzato, Wolf: DeepFace: closing the gap to human-level performance in face verification, 2014).

Layers L4 to L6 of its figure 2 are locally connected: at each position of an aligned face there is something else to see.
Dropout does nothing in inference and is left out.
"""

from __future__ import annotations

from ..frontends.dsl import Value, conv, flatten, linear, locally_connected, max_pool, model, relu


@model(image=("batch=1", 3, 152, 152))
def deepface(image: Value) -> Value:
    """DeepFace, 4030 people (logits), for frontal faces of 152 x 152."""
    x = relu(conv(image, 32, 11, name="C1"))
    x = max_pool(x, 3, stride=2, ceil=True)
    x = relu(conv(x, 16, 9, name="C3"))
    x = relu(locally_connected(x, 16, 9, name="L4"))
    x = relu(locally_connected(x, 16, 7, stride=2, name="L5"))
    x = relu(locally_connected(x, 16, 5, name="L6"))
    x = relu(linear(flatten(x), 4096, name="F7"))
    return linear(x, 4030, name="F8")
