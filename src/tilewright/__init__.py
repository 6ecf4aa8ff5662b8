"""Tilewright compiles a trained convolutional network into tiled kernels made for the machine it runs on, and runs it."""

from .engine.augment import augment as augment
from .engine.compiler import compile as compile
from .engine.compiler import load as load
from .engine.compiler import optimize as optimize
from .engine.errors import CompilerBug as CompilerBug
from .engine.errors import MachineError as MachineError
from .engine.errors import ModelError as ModelError
from .engine.errors import TilewrightError as TilewrightError
from .engine.errors import UnsupportedError as UnsupportedError
from .engine.graph import Graph as Graph
from .engine.images import Preprocessing as Preprocessing
from .engine.knobs import knobs as knobs
from .engine.preprocess import preprocess as preprocess
from .engine.saving import open_session as open
from .engine.session import Session as Session
from .engine.weights import load_weights as load_weights

__version__ = "0.1.0"
