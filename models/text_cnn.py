"""Text CNN (Kim: Convolutional neural networks for sentence classification, 2014); dropout does nothing in inference."""

from __future__ import annotations

import numpy as np

from ..frontends.dsl import Value, concat, conv, embedding, largest, linear, model, relu, transpose

VOCABULARY, FEATURES = 18_765, 300
"""Of the movie reviews (MR), and of word2vec."""
WIDTHS, MAPS = (3, 4, 5), 100


@model(words=(np.int64, "batch=1", "length=64"))
def text_cnn(words: Value) -> Value:
    """Text CNN (CNN-rand), 2 classes of movie reviews (logits), from the indices of at least five words."""
    sentence = transpose(embedding(words, VOCABULARY, FEATURES), (0, 2, 1))
    over_time = [largest(relu(conv(sentence, MAPS, width)), axes=2, keep=False) for width in WIDTHS]
    return linear(concat(*over_time), 2)
