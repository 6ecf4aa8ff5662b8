"""Compiled models where commands take a model: what they say no to."""

from __future__ import annotations

import argparse

from ..backend import Options
from ..errors import ModelError
from ..saved import is_saved
from ..saving import open_session
from ..session import Session


def opened(arguments: argparse.Namespace) -> Session | None:
    """The session of a compiled model; None: MODEL is another kind. Raises ModelError for options that came too late."""
    if not is_saved(arguments.model):
        return None
    given = {
        "--weights": arguments.weights is not None,
        "--preprocess": arguments.preprocess,
        "--backend": arguments.backend != "cpu",
        "--threads": arguments.threads is not None,
        "--accuracy": arguments.accuracy != Options().accuracy,
        "--precision": arguments.precision is not None,
        "--passes": arguments.passes is not None,
        "--tune": arguments.tune,
    }
    if late := [option for option, said in given.items() if said]:
        raise ModelError(f"{arguments.model!r} is a compiled model; {', '.join(late)} can be given to `tilewright compile` only")
    return open_session(arguments.model, verify=arguments.verify)


def add_verification(parser: argparse.ArgumentParser) -> None:
    """--verify."""
    parser.add_argument("--verify", action="store_true", help="of a compiled model also compare the weights with their checksums")
