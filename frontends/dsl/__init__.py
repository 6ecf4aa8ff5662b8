"""Networks as Python functions: `@model(image=("batch=1", 3, 224, 224))` over the layers named on this page.

    @model(image=("batch=1", 1, 28, 28))
    def small(image):
        x = max_pool(relu(conv(image, 8, 3, pad="same")), 2)
        return softmax(linear(flatten(x), 10))

The function runs once for each input shape; layers add nodes to the graph, they compute nothing. Layers name themselves and
their parameters (`conv1.weight`), `scope("layer1.0")` and functions decorated with `@layer` put a prefix before them, and
`small.with_weights({...})` replaces the random initial arrays. An operator of your own is a Node class: `apply(Mine, x, y)`.
What does not fit raises ModelError: one line that names the layer, what it expected and what came.
"""

# A model
from .model import Model, dsl, model

# isort: split
# How layers are named
from .trace import layer, scope

# isort: split
# What layers are made of: values, operators, parameters and how they start
from .initial import he_normal, normal, uniform
from .value import Value, apply, constant, matmul, parameter, pointwise

# isort: split
# Layers with parameters
from .layers import batch_norm, conv, conv_transpose, convolve, group_norm, layer_norm, linear, prelu
from .local import locally_connected, unfold

# isort: split
# Pooling: by windows, and into a given number of results
from .regions import adaptive_average_pool, adaptive_max_pool, fractional_max_pool
from .windows import average_pool, max_pool

# isort: split
# Layers without parameters: activations, reductions, movement
from .functions import (
    clip,
    concat,
    elu,
    exp,
    expand,
    flatten,
    gelu,
    global_average_pool,
    global_max_pool,
    hard_sigmoid,
    hard_swish,
    largest,
    leaky_relu,
    local_response_norm,
    log,
    maximum,
    mean,
    minimum,
    mish,
    pad,
    relu,
    relu6,
    reshape,
    resize,
    sigmoid,
    silu,
    softmax,
    softplus,
    split,
    sqrt,
    tanh,
    total,
    transpose,
    upsample,
    where,
)

# isort: split
# Positions that are data
from .indexing import embedding, gather, scatter_sum

__all__ = [
    "Model",
    "Value",
    "adaptive_average_pool",
    "adaptive_max_pool",
    "apply",
    "average_pool",
    "batch_norm",
    "clip",
    "concat",
    "constant",
    "conv",
    "conv_transpose",
    "convolve",
    "dsl",
    "elu",
    "embedding",
    "exp",
    "expand",
    "flatten",
    "fractional_max_pool",
    "gather",
    "gelu",
    "global_average_pool",
    "global_max_pool",
    "group_norm",
    "hard_sigmoid",
    "hard_swish",
    "he_normal",
    "largest",
    "layer",
    "layer_norm",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "locally_connected",
    "log",
    "matmul",
    "max_pool",
    "maximum",
    "mean",
    "minimum",
    "mish",
    "model",
    "normal",
    "pad",
    "parameter",
    "pointwise",
    "prelu",
    "relu",
    "relu6",
    "reshape",
    "resize",
    "scatter_sum",
    "scope",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "split",
    "sqrt",
    "tanh",
    "total",
    "transpose",
    "unfold",
    "uniform",
    "upsample",
    "where",
]
