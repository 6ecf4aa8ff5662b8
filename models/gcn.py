"""GCN (Kipf, Welling: Semi-supervised classification with graph convolutional networks, 2016).

The normalised adjacency matrix is sparse: an edge (source, target) and its weight stand for each number in it that is not zero.
"""

from __future__ import annotations

import numpy as np

from ..frontends.dsl import Value, gather, layer, linear, model, relu, reshape, scatter_sum, softmax


@model(features=("nodes=2708", 1433), edges=(np.int64, 2, "edges=13264"), weights=("edges=13264",))
def gcn(features: Value, edges: Value, weights: Value) -> Value:
    """GCN of two layers, 7 classes of Cora for every node (softmax); `normalised_edges` makes edges and weights of a graph."""
    x = relu(graph_conv(features, edges, weights, 16))
    return softmax(graph_conv(x, edges, weights, 7))


@layer
def graph_conv(x: Value, edges: Value, weights: Value, channels: int, *, name: str | None = None) -> Value:
    """A x W: every node sums what the nodes around it send, each message times the weight of its edge."""
    projected = linear(x, channels, bias=False, name="linear")
    messages = gather(projected, edges[0]) * reshape(weights, (-1, 1))
    return scatter_sum(messages, edges[1], x.shape[0])


def normalised_edges(links: np.ndarray, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """The edges (2, E) and weights (E,) of D^-1/2 (A + I) D^-1/2, with D the degrees in A + I.

    links (2, L): the edges of an undirected graph without weights, each in one direction or in both; loops and repetitions change nothing.
    """
    loops = np.arange(nodes)
    both = np.concatenate([links, links[::-1], [loops, loops]], axis=1)
    edges = np.unique(both, axis=1).astype(np.int64)
    degrees = np.bincount(edges[1], minlength=nodes)
    return edges, (1 / np.sqrt(degrees[edges[0]] * degrees[edges[1]])).astype(np.float32)
