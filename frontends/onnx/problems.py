"""What a model asks for and Tilewright does not do, collected so that the user sees all of it at once."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Iterable, Iterator, Sequence

from ...engine.errors import UnsupportedError
from .convert import find_converter
from .functions import has_definition
from .parse import Model, Operation

SHOWN_NODES = 12
_DATA = "the shape of its result depends on data"
_LOOP = "it repeats a subgraph"
_RANDOM = "its result is random"
_SEQUENCE = "sequences, optionals and strings are not supported"
REASONS = {
    **dict.fromkeys(("NonMaxSuppression", "Unique"), _DATA),
    **dict.fromkeys(("Loop", "Scan", "SequenceMap"), _LOOP),
    **dict.fromkeys(("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"), _RANDOM),
    **dict.fromkeys(("SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceErase", "SequenceAt", "SequenceLength"), _SEQUENCE),
    **dict.fromkeys(("SplitToSequence", "ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement"), _SEQUENCE),
    **dict.fromkeys(("StringConcat", "StringNormalizer", "StringSplit", "RegexFullMatch", "TfIdfVectorizer"), _SEQUENCE),
}


@dc.dataclass(frozen=True)
class Problem:
    """One node that could not be converted, and why (empty: there is no converter)."""

    op: str
    domain: str
    label: str
    reason: str

    @property
    def operator(self) -> str:
        return f"{self.domain}.{self.op}" if self.domain else self.op


def missing(model: Model) -> list[Problem]:
    """The nodes of the model, and of functions that it calls, for whose operators there is neither a converter nor a definition."""
    found: list[Problem] = []
    for operation, opsets in _operations(model):
        opset = opsets.get(operation.domain, 1)
        if operation.op == "If" or find_converter(operation.op, operation.domain):
            continue
        reason = "" if operation.domain else REASONS.get(operation.op, "")
        if reason or not has_definition(operation.op, operation.domain, opset):
            found.append(Problem(operation.op, operation.domain, operation.label, reason))
    return found


def _operations(model: Model) -> Iterator[tuple[Operation, dict[str, int]]]:
    """Every operation with its opsets; calls of the model's own functions give way to what these do. Branches of an If may never run."""
    seen, waiting = set(), [(model.body.operations, model.opsets)]
    while waiting:
        operations, opsets = waiting.pop()
        for operation in operations:
            key = (operation.domain, operation.op)
            if key not in model.functions:
                yield operation, opsets
            elif key not in seen:
                seen.add(key)
                waiting.append((model.functions[key].operations, model.functions[key].opsets))


def report(problems: Sequence[Problem]) -> UnsupportedError:
    """One error that lists everything and says where to add a converter."""
    groups: dict[tuple[str, str], list[str]] = {}
    for problem in problems:
        groups.setdefault((problem.operator, problem.reason), []).append(problem.label)
    lines = [f"{operator} ({_nodes(labels)}{reason and ': ' + reason})" for (operator, reason), labels in groups.items()]
    where = "converters are in frontends/onnx/ops_*.py, and CONTRIBUTING.md says how to add one"
    return UnsupportedError(f"not supported yet: {'; '.join(lines)}; {where}")


def _nodes(labels: Iterable[str]) -> str:
    labels = list(labels)
    more = f" and {len(labels) - SHOWN_NODES} more" if len(labels) > SHOWN_NODES else ""
    return f"node{'s' if len(labels) > 1 else ''} {', '.join(map(repr, labels[:SHOWN_NODES]))}{more}"
