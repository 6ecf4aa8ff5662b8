"""Graph → ONNX: every operator in its own words, fused epilogues spelled out."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from ...engine.errors import ModelError, UnsupportedError
from ...engine.expression import Expression
from ...engine.graph import Graph, Input, Node, Result, reachable
from ...engine.ops.gather import ScatterElements, ScatterND
from ...engine.ops.pool import AveragePool
from ...engine.ops.reduce import Reduce
from ...engine.ops.resize import Resize
from ...engine.ops.shape import Pad
from .export_expression import opset_of_expression
from .export_nodes import write
from .writer import Writer

OPSET = 17


def export(graph: Graph, values: Sequence[Node] = ()) -> onnx.ModelProto:
    """The graph as an ONNX model, in opset 17 or the oldest newer one that has all its operators.

    The results of `values`, any nodes of the graph, become further outputs, after the graph's own and in that order.
    Raises UnsupportedError listing every operator that ONNX cannot say.
    """
    if wrong := [node for node in values if len(node.types) != 1]:
        raise ModelError(f"expected values with one result, got {', '.join(map(repr, wrong))}; give Result(node, index=i)")
    _check_names(graph)
    nodes = list(reachable((*graph.outputs, *values)))
    writer = Writer(max((OPSET, *map(opset_of, nodes))), {*(n.name for n in graph.inputs), *graph.output_names})
    _write_nodes(nodes, writer, _wanted_names(graph))
    outputs = [_output(writer, node, name) for node, name in zip(graph.outputs, graph.output_names, strict=True)]
    outputs += [_output(writer, node, writer.fresh(f"value_{i}")) for i, node in enumerate(values)]
    inputs = [writer.value_info(n.name, n.type.dtype, n.type.shape) for n in graph.inputs]
    proto = onnx.helper.make_graph(writer.nodes, graph.name, inputs, outputs, writer.initializers)
    opsets = [onnx.helper.make_opsetid("", writer.opset)]
    return onnx.helper.make_model(
        proto, producer_name="tilewright", opset_imports=opsets, ir_version=onnx.helper.find_min_ir_version_for(opsets)
    )


def _check_names(graph: Graph) -> None:
    """UnsupportedError for an output that has the name of an input and is another value: in ONNX a name means one value."""
    inputs = {node.name: node for node in graph.inputs}
    if both := [name for node, name in zip(graph.outputs, graph.output_names, strict=True) if inputs.get(name, node) is not node]:
        raise UnsupportedError(f"ONNX cannot say: an input and an output that are both called {', '.join(both)}; rename one of them")


def _wanted_names(graph: Graph) -> dict[tuple[Node, int], str]:
    """The output name of each result that is one; of a result with several output names the first."""
    wanted: dict[tuple[Node, int], str] = {}
    for node, name in zip(graph.outputs, graph.output_names, strict=True):
        wanted.setdefault((node.node, node.index) if isinstance(node, Result) else (node, 0), name)
    return wanted


def _write_nodes(nodes: Sequence[Node], writer: Writer, wanted: dict[tuple[Node, int], str]) -> None:
    problems: list[str] = []
    for node in nodes:
        if isinstance(node, Input):
            writer.names[node, 0] = node.name
        elif isinstance(node, Result):
            writer.names[node, 0] = writer.names[node.node, node.index]
        else:
            try:
                results = write(node, writer)
            except UnsupportedError as error:
                problems.append(f"{node!r} ({', '.join(node.origin) or 'no name'}): {error}")
                results = ("",) * len(node.types)
            _name_results(node, (results,) if isinstance(results, str) else results, writer, wanted)
    if problems:
        raise UnsupportedError(f"ONNX cannot say: {'; '.join(problems)}")


def _name_results(node: Node, results: Sequence[str], writer: Writer, wanted: dict[tuple[Node, int], str]) -> None:
    """Results get the names that the user knows them by, where their node made them and they are free."""
    for index, name in enumerate(results):
        better = wanted.get((node, index)) or (writer.fresh(node.origin[-1]) if node.origin else name)
        writer.names[node, index] = writer.rename(name, better) if writer.is_unread(name) else name


def _output(writer: Writer, node: Node, name: str) -> onnx.ValueInfoProto:
    """The declaration of an output; where the value has another name, a copy gets this one."""
    if writer.names[node, 0] != name:
        writer.rename(writer.emit("Identity", writer.names[node, 0]), name)
    return writer.value_info(name, node.type.dtype, node.type.shape)


def opset_of(node: Node) -> int:
    """The oldest opset that can say the node."""
    match node:
        case Resize(coordinates="half_pixel_symmetric") | Pad(mode="wrap"):
            return 19
        case AveragePool() if any(d > 1 for d in node.dilations):
            return 19
        case Reduce() if node.x.type.dtype.kind == "b":
            return 20
        case Resize(antialias=True) | ScatterElements(reduction="max" | "min") | ScatterND(reduction="max" | "min"):
            return 18
    expressions = [value for f in node.attributes if isinstance(value := getattr(node, f.name), Expression)]
    return max(map(opset_of_expression, expressions), default=1)
