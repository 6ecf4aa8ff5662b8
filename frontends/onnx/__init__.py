"""ONNX models: `onnx` reads them, `export` writes them."""

from .export import export as export
from .source import onnx as onnx
