"""ONNX models: `onnx` reads them."""

from .source import onnx as onnx
