"""The heat maps of a page, each with the sentence that says how to read it."""

from __future__ import annotations

import dataclasses as dc

import numpy as np

from ..graph import Node
from .activation import Head, score_cam
from .markup import tag
from .occlusion import occlusion
from .page import Heat
from .picture import Picture, Scorer


@dc.dataclass(frozen=True)
class Question:
    """The class that is explained."""

    target: int
    label: str


def exactly(question: Question, head: Head, features: np.ndarray) -> Heat:
    """The class activation map."""
    values = head.activation(features)
    against = ", cold ones against it" if values.min() < 0 else ""
    is_own_map = np.count_nonzero(head.weights) == 1 and head.weights.max() == 1
    end = "the average of one map for each class" if is_own_map else "global average pooling and a linear layer"
    plus = f" plus the bias {head.bias:.4g}" if head.bias else ""
    said = (
        "Warm places speak for ", tag("b", question.label), f"{against}. This network ends in {end}, so the map is exact: "
        f"its mean {values.mean():.4g}{plus} is the score of the class (Zhou et al. 2016).",
    )  # fmt: skip
    return Heat("Class activation map", values, "part of the score", said)


def by_masks(question: Question, scorer: Scorer, picture: Picture, features: np.ndarray, layer: Node) -> Heat:
    """Score-CAM over these channels of a layer."""
    values = score_cam(scorer, picture, features, question.target)
    where = f" of {layer.origin[-1]}" if layer.origin else ""
    said = (
        "Warm places speak for ", tag("b", question.label), ". This network does not end in global average pooling and a linear layer; "
        f"instead the maps of the {len(features)} most active channels{where} are added up, each weighted by how probable the class "
        "stays when only the places where that channel is active are left of the picture (Wang et al. 2020).",
    )  # fmt: skip
    return Heat("Class activation by Score-CAM", values, "weighted activation", said)


def hidden(question: Question, scorer: Scorer, picture: Picture, patch: int, step: int) -> Heat:
    """The occlusion map."""
    found = occlusion(scorer, picture, question.target, patch, step)
    worst = found.drops.max()
    said = (
        f"A grey square of {patch} × {patch} pixels hides one place after the other. Where it is warm, hiding makes ",
        tag("b", question.label), f" less probable, by {worst:.1%} at most; where it is cold, more probable (Zeiler, Fergus 2013).",
    )  # fmt: skip
    return Heat("Occlusion map", found.over(picture.extent), "probability lost", said)
