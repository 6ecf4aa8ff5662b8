"""The model that a command line means: a file or a name of the zoo, and what is to be done to it first."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ..compiler import named_model
from ..errors import ModelError
from ..preprocess import preprocess
from ..weights import Weighted, load_weights
from .arguments import preprocessing


def model_of(arguments: argparse.Namespace, name: str | None = None) -> Any:
    """What `compile` and `load_source` take for MODEL, or for one of several."""
    model = arguments.model if name is None else name
    if arguments.weights is not None:
        model = _with_weights(model, arguments.weights)
    return preprocess(model, preprocessing(arguments)) if arguments.preprocess else model


def is_file_as_it_is(arguments: argparse.Namespace, name: str) -> bool:
    """Whether the model is what its file says, so that others can read the file."""
    return arguments.weights is None and not arguments.preprocess and os.path.exists(name)


def _with_weights(model: str, file: str) -> Any:
    target = named_model(model)
    if not isinstance(target, Weighted):
        raise ModelError(f"--weights: expected a name of the zoo as MODEL, got {model!r}; a model file has its own weights")
    return load_weights(target, file)
