"""Networks that have everything of a well-known family, with few layers, few channels and small images."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.frontends.dsl import (
    Model,
    Value,
    average_pool,
    batch_norm,
    clip,
    concat,
    conv,
    flatten,
    global_average_pool,
    hard_swish,
    linear,
    max_pool,
    model,
    relu,
    relu6,
    sigmoid,
    softmax,
    upsample,
)
from tilewright.models import resnet18

Kernel = int | tuple[int, int]


def unit(x: Value, channels: int, kernel: Kernel = 1, stride: int = 1, groups: int = 1) -> Value:
    """batch_norm(conv(x)), padded so that stride 1 keeps the extents."""
    pads = kernel // 2 if isinstance(kernel, int) else tuple(k // 2 for k in kernel)
    return batch_norm(conv(x, channels, kernel, stride, pad=pads, groups=groups, bias=False))


def head(x: Value, classes: int) -> dict[str, Value]:
    """Scores of classes, and probabilities."""
    scores = linear(flatten(global_average_pool(x)), classes)
    return {"scores": scores, "probabilities": softmax(scores)}


@model(image=("batch=1", 3, 49, 45))
def inverted_residuals(image: Value) -> dict[str, Value]:
    """As in MobileNet v2 and v3: expand, depthwise, squeeze and excite, project; channels that are no whole vectors."""
    x = hard_swish(unit(image, 16, 3, stride=2))
    for channels, expansion, kernel, stride in ((16, 1, 3, 1), (24, 4, 3, 2), (24, 3, 3, 1), (40, 3, 5, 2), (40, 6, 5, 1)):
        y = relu6(unit(x, channels * expansion))
        y = hard_swish(unit(y, channels * expansion, kernel, stride, groups=channels * expansion))
        squeezed = relu(conv(global_average_pool(y), 12, 1))
        y = unit(y * clip(sigmoid(conv(squeezed, channels * expansion, 1)), 0.1, 0.9), channels)
        x = x + y if x.shape == y.shape else y
    return head(hard_swish(unit(x, 120)), 37)


@model(image=("batch=1", 3, 50, 54))
def dense_blocks(image: Value) -> dict[str, Value]:
    """As in DenseNet: every layer reads all before it, normalised anew; 12 more channels each."""
    x = max_pool(relu(unit(image, 24, 7, stride=2)), 3, stride=2, pad=1)
    for width in (3, 4):
        for _ in range(width):
            y = conv(relu(batch_norm(x)), 48, 1, bias=False)
            x = concat(x, conv(relu(batch_norm(y)), 12, 3, pad=1, bias=False))
        x = average_pool(conv(relu(batch_norm(x)), x.shape[1] // 2, 1, bias=False), 2)
    return head(relu(batch_norm(x)), 29)


def chain(x: Value, *layers: tuple[int, Kernel]) -> Value:
    """One branch of an inception block."""
    for channels, kernel in layers:
        x = relu(unit(x, channels, kernel))
    return x


@model(image=("batch=1", 3, 69, 67))
def inception_blocks(image: Value) -> dict[str, Value]:
    """As in Inception v3: branches of 1 x 1, 5 x 5, 1 x 7 and 7 x 1, 1 x 3 and 3 x 1, pooling; a block that halves the map."""
    x = relu(unit(relu(conv(image, 16, 3, stride=2)), 32, 3))
    x = concat(
        chain(x, (32, 1)), chain(x, (24, 1), (32, 5)), chain(x, (24, 1), (40, 3), (40, 3)), chain(average_pool(x, 3, 1, pad=1), (24, 1))
    )
    x = concat(relu(unit(x, 48, 3, stride=2)), max_pool(x, 3, stride=2, pad=1))
    x = concat(chain(x, (48, 1)), chain(x, (32, 1), (32, (1, 7)), (48, (7, 1))), chain(average_pool(x, 3, 1, pad=1), (33, 1)))
    y = chain(x, (40, 1))
    return head(concat(chain(y, (40, (1, 3))), chain(y, (40, (3, 1))), y), 31)


@model(image=("batch=1", 3, 40, 48))
def encoder_decoder(image: Value) -> Value:
    """As in U-Net: 3 x 3 twice on each level, down and up again, levels joined."""

    def twice(x: Value, channels: int) -> Value:
        return chain(x, (channels, 3), (channels, 3))

    levels = [twice(image, 32)]
    for channels in (48, 64):
        levels.append(twice(max_pool(levels[-1], 2), channels))
    x = levels.pop()
    while levels:
        x = twice(concat(levels[-1], upsample(x, 2)), levels.pop().shape[1])
    return conv(x, 5, 1)


SMALL_RESNET18 = resnet18.with_inputs(image=("batch=1", 3, 64, 64))
NETWORKS: Sequence[Model] = (SMALL_RESNET18, inverted_residuals, dense_blocks, inception_blocks, encoder_decoder)
