"""ONNX models: `onnx` reads them, `export.export` writes them."""

from .source import onnx as onnx
