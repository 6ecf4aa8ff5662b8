"""From a model and a picture to what a page shows: one run that keeps inner values, then many runs of changed pictures."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..classification import as_probabilities, class_scores, looks_like_probabilities
from ..compiler import compile, optimize
from ..errors import ModelError
from ..expression import Apply
from ..graph import Graph, Node
from ..ops import Pointwise
from ..progress import progress
from ..rewrite import Pass
from ..source import Source, specialize
from .activation import find_head, most_active
from .explain import Question, by_masks, exactly, hidden
from .layers import chosen_maps, feature_maps, first_kernels, influenced, last_map, spread_maps
from .occlusion import default_patch
from .page import Findings, Heat, Kernels, Maps, Prediction
from .picture import Picture, Scorer

LAYERS = 6
"""How many layers are shown when nobody says which."""
MASKS = 64
"""About how many channels Score-CAM asks."""
BATCH = 8
"""How many variants of the picture run at once, where the model leaves that open."""
NO_KERNELS = "No convolution with learned kernels works on the picture, so there are no kernels to show."
NO_ACTIVATION = "No convolution keeps places of the picture apart, so there is no class activation map; the occlusion map needs none."
NO_CLASSES = (
    "No output of this model holds the scores of classes, so there is no prediction to explain: only kernels and feature maps are shown."
)


@dc.dataclass(frozen=True)
class Subject:
    """A model, what it is run on, and how it is compiled."""

    source: Source
    inputs: Mapping[str, np.ndarray]
    picture: Picture
    options: Mapping[str, Any]
    """What `compile` is told besides shapes and passes."""
    passes: Sequence[str | Pass] | None = None
    batch: int | None = None
    """How many variants of the picture run at once; None: what suits the model."""


@dc.dataclass(frozen=True)
class Wishes:
    """What the page is to show."""

    layers: Sequence[str] = ()
    channels: int = 12
    target: int | None = None
    """The class to explain; None: the most probable one."""
    patch: int | None = None
    step: int | None = None
    labels: list[str] | None = None
    top: int = 5


@dc.dataclass(frozen=True)
class Observed:
    """What one run gave: the outputs, the values of inner nodes, and how the scores come about."""

    outputs: Mapping[str, np.ndarray]
    values: Mapping[Node, np.ndarray]
    scored: str | None
    """The output that holds class scores."""
    score: Node | None
    """That output after the passes."""
    features: np.ndarray | None
    """What is averaged in front of the linear layer; None: the network does not end like this."""


def study(subject: Subject, wishes: Wishes, title: str) -> Findings:
    """Everything about the picture. Raises ModelError for a layer or a class that is not there."""
    graph = specialize(subject.source, subject.inputs)
    nodes = influenced(graph, subject.picture.name)
    maps = feature_maps(nodes)
    chosen = chosen_maps(maps, nodes, wishes.layers) if wishes.layers else spread_maps(maps, graph, LAYERS)
    last = last_map(graph, nodes)
    seen = observe(subject, graph, [*chosen.values(), *([last] if last else [])], wishes.labels)
    question, predictions = asked(seen, wishes)
    spec = next(i for i in graph.inputs if i.name == subject.picture.name)
    first = kernels(nodes, subject.picture)
    heats = explained(subject, wishes, question, seen, last) if question else []
    missing = {NO_CLASSES: question is None, NO_KERNELS: first is None, NO_ACTIVATION: len(heats) == 1}
    return Findings(
        title=title,
        facts=(f"model {graph.name}", f"input {spec.name}: {spec.type}", *_read(seen), f"backend {subject.options['backend']}"),
        pixels=subject.picture.pixels,
        predictions=predictions,
        heats=heats,
        kernels=first,
        maps=[_maps(name, node, seen.values[node][0], wishes.channels) for name, node in chosen.items()],
        notes=[note for note, is_missing in missing.items() if is_missing],
    )


def _read(seen: Observed) -> list[str]:
    """How the probabilities come out of the model."""
    if seen.scored is None:
        return []
    _, scores = class_scores({seen.scored: seen.outputs[seen.scored]}, None)
    return [f"probabilities: {'' if looks_like_probabilities(scores) else 'softmax of '}{seen.scored}"]


def observe(subject: Subject, graph: Graph, inner: Sequence[Node], labels: list[str] | None) -> Observed:
    """Run the model once with these inner nodes, and whatever a global average pooling averages, as further outputs."""
    scored = scores_in_advance(graph, labels)
    wanted = list(dict.fromkeys([*graph.outputs, *inner]))
    optimized = optimize(_exposed(graph, wanted), subject.passes)
    score = optimized.outputs[wanted.index(graph.outputs[graph.output_names.index(scored)])] if scored else None
    head = find_head(score, 0) if score else None
    averaged = [head.features] if head else []
    asked_for = list(dict.fromkeys([*optimized.outputs, *averaged]))
    session = compile(_exposed(optimized, asked_for), passes=[], **subject.options)
    arrays = dict(zip(asked_for, session.run(subject.inputs).values(), strict=True))
    values = {node: arrays[after] for node, after in zip(wanted, optimized.outputs, strict=True)}
    outputs = {name: values[node] for name, node in zip(graph.output_names, graph.outputs, strict=True)}
    return Observed(outputs, values, scored, score, arrays[head.features] if head else None)


def _exposed(graph: Graph, outputs: Sequence[Node]) -> Graph:
    """The graph with these outputs, called by their numbers: the names that nodes have need not differ."""
    return dc.replace(graph, outputs=tuple(outputs), output_names=tuple(map(str, range(len(outputs)))))


def scores_in_advance(graph: Graph, labels: list[str] | None) -> str | None:
    """The output that will hold scores of one picture, at least two of them. ModelError when none has as many as there are labels."""
    types = {name: o.type for name, o in zip(graph.output_names, graph.outputs, strict=True)}
    try:
        name, scores = class_scores({name: np.broadcast_to(np.zeros((), t.dtype), t.shape) for name, t in types.items()}, labels)
    except ModelError:
        if labels:
            raise
        return None
    return name if len(scores) == 1 and scores.shape[1] > 1 else None


def asked(seen: Observed, wishes: Wishes) -> tuple[Question | None, list[Prediction]]:
    """The class to explain, and the most probable classes with that one among them."""
    if seen.scored is None:
        if wishes.target is not None:
            raise ModelError(f"--class {wishes.target}: no output of the model holds class scores")
        return None, []
    _, scores = class_scores({seen.scored: seen.outputs[seen.scored]}, None)
    probabilities = as_probabilities(scores)[0]
    order = np.argsort(-probabilities, kind="stable")
    target = int(order[0]) if wishes.target is None else wishes.target
    if not 0 <= target < len(order):
        raise ModelError(f"--class: expected a number from 0 to {len(order) - 1}, got {target}")
    shown = list(dict.fromkeys([*order[: wishes.top].tolist(), target]))
    predictions = [Prediction(_label(wishes.labels, k), float(probabilities[k]), k == target) for k in shown]
    return Question(target, _label(wishes.labels, target)), predictions


def _label(labels: list[str] | None, number: int) -> str:
    return labels[number] if labels else f"class {number}"


def explained(subject: Subject, wishes: Wishes, question: Question, seen: Observed, last: Node | None) -> list[Heat]:
    """The class activation map, exact or by Score-CAM, and the occlusion map."""
    picture = subject.picture
    patch = min(wishes.patch or default_patch(picture.extent), *picture.extent)
    step = wishes.step or max(1, patch // 2)
    batch = batch_of(subject)
    variants = (picture.extent[0] // step + 1) * (picture.extent[1] // step + 1) + MASKS
    with progress(variants // batch) as report:
        scorer = Scorer(_session(subject, batch), subject.inputs, picture.name, seen.scored or "", batch, report)
        heats = []
        if seen.features is not None and seen.score and (head := find_head(seen.score, question.target)):
            heats.append(exactly(question, head, seen.features))
        elif last:
            features = seen.values[last][0].astype(np.float64)
            heats.append(by_masks(question, scorer, picture, features[most_active(features, MASKS)], last))
        return [*heats, hidden(question, scorer, picture, patch, step)]


def batch_of(subject: Subject) -> int:
    """How many variants of the picture run at once: a model of several inputs may not go together with that."""
    declared = next(s for s in subject.source.inputs if s.name == subject.picture.name).shape[0]
    return subject.batch or (1 if isinstance(declared, int) or len(subject.inputs) > 1 else BATCH)


def _session(subject: Subject, batch: int) -> Any:
    """The model compiled for so many pictures."""
    shapes = {name: array.shape for name, array in subject.inputs.items()}
    shapes[subject.picture.name] = (batch, *subject.picture.array.shape[1:])
    return compile(subject.source, shapes=shapes, passes=subject.passes, **subject.options)


def kernels(nodes: Sequence[Node], picture: Picture) -> Kernels | None:
    """The kernels that meet the picture first, with red first where they are over colours."""
    if (found := first_kernels(nodes)) is None:
        return None
    layer, weights = found
    colours = weights.shape[1] == 3 and picture.how.channels == 3
    return Kernels(layer, weights[:, ::-1] if colours and picture.how.order == "bgr" else weights, colours)


def _maps(layer: str, node: Node, values: np.ndarray, channels: int) -> Maps:
    return Maps(layer, _operator(node), values, most_active(values, channels).tolist())


def _operator(node: Node) -> str:
    """`relu`, `max pool`."""
    expression = node.expression if isinstance(node, Pointwise) else None
    return (expression.function if isinstance(expression, Apply) else node.opname).replace("_", " ")
