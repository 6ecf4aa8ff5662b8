"""Which primitive functions the generators compute for which kinds of dtype."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...engine.expression import FUNCTIONS, Apply, Expression, expand, result_dtype, walk

BFLOAT16 = np.dtype([("bfloat16", np.uint16)])
"""The dtype of bfloat16, which NumPy does not have; only a backend's own lowering introduces it."""
FLOATS, INTEGERS, NUMBERS, ALL = "f", "iu", "fiu", "fiub"
KINDS: dict[str, str] = {
    **{name: FLOATS for name, function in FUNCTIONS.items() if function.definition is None},
    "sigmoid": FLOATS,
    **dict.fromkeys(("sub", "div", "remainder", "fmod", "pow", "neg", "sign", "floor", "ceil", "round"), NUMBERS),
    **dict.fromkeys(("add", "mul", "max", "min", "abs", "less", "less_equal", "equal", "where", "and", "or", "xor", "not"), ALL),
    **dict.fromkeys(("bit_and", "bit_or", "bit_xor", "bit_not"), INTEGERS + "b"),
    **dict.fromkeys(("shift_left", "shift_right"), INTEGERS),
}
"""The kinds of dtype that each function is emitted for."""


def kind_of(dtype: np.dtype) -> str:
    """ "f", "i", "u" or "b"."""
    return "f" if dtype == BFLOAT16 else dtype.kind


def unsupported(expression: Expression, dtypes: Sequence[np.dtype]) -> str:
    """Why the expression cannot be emitted for these dtypes, or an empty string."""
    for part in walk(expand(expression)):
        if isinstance(part, Apply):
            given = [result_dtype(a, dtypes) for a in (part.args[1:] if part.function == "where" else part.args)]
            for dtype in given:
                if dtype is not None and kind_of(dtype) not in KINDS[part.function]:
                    return f"{part.function} of {dtype}"
    return ""
