"""Kernels of the long tail: readable loops over flat memory, compiled ahead of time by Numba behind the ABI of all kernels.

Numba is imported only when a kernel is not in the object cache yet. What it compiles is used bare: no Python objects, no
exceptions, no memory of its own; a function that asks for any of these is refused.
"""

from __future__ import annotations

import dataclasses as dc
import functools
import importlib
from collections.abc import Callable
from typing import Any, ClassVar

import llvmlite.ir as ir
import numpy as np

from ...engine.errors import CompilerBug
from .emit import I32, POINTER, Emitter
from .kernel import Kernel
from .target import Target, binding, host

Array = Any
"""An address parameter inside the body of a kernel."""
LIBM = frozenset(
    f"{name}{suffix}"
    for name in ("exp", "log", "log2", "log10", "log1p", "expm1", "pow", "sin", "cos", "tan", "tanh", "erf", "floor", "ceil", "fmod")
    for suffix in ("", "f")
)
"""What a compiled function may call: every process has it."""


@dc.dataclass(frozen=True)
class NumbaKernel(Kernel):
    """A kernel whose body is a Python function `(begin, end, thread, *parameters)` that does the units begin <= unit < end.

    An address becomes a pointer that is indexed like a flat array of `dtypes[name]`; nothing checks its bounds, and a negative
    index does not count from the end. A number is an int64. What the fields decide reaches the function through its closure.
    """

    engine: ClassVar[str] = "numba"

    @property
    def dtypes(self) -> dict[str, Any]:
        """The dtype of what each address points to."""
        raise NotImplementedError

    def body(self) -> Callable[..., None]:
        """The function to compile."""
        raise NotImplementedError

    def emit(self, target: Target) -> str:
        """The compiled function and the kernel that calls it with its arguments, as LLVM IR text."""
        name, module = compiled(self, target)
        emitter = Emitter(self.symbol, self.signature, target)
        arguments = [emitter.pointer(p[:-1]) if p.endswith("*") else emitter.argument(p) for p in self.signature]
        given = [emitter.b.alloca(POINTER), emitter.b.alloca(POINTER), emitter.begin, emitter.end, emitter.thread, *arguments]
        kind = ir.FunctionType(I32, [value.type for value in given])
        emitter.b.call(ir.Function(emitter.module, kind, name), given)
        caller = binding().parse_assembly(emitter.text())
        caller.triple, caller.data_layout = module.triple, module.data_layout
        caller.link_in(module)
        return str(caller)


def numba(module: str) -> Any:
    """A module of Numba, imported at the first use."""
    return importlib.import_module(f"numba.{module}")


def inlined(function: Callable[..., Any]) -> Any:
    """A function that the body of a kernel may call."""
    return numba("extending").register_jitable(inline="always")(function)


def compiled(kernel: NumbaKernel, target: Target) -> tuple[str, Any]:
    """(name, LLVM module) of a kernel's function, optimised for the target."""
    types, compiler, errors = numba("types"), numba("core.compiler"), numba("core.errors")
    dtypes = kernel.dtypes
    kinds = [types.CPointer(element_type(dtypes[p[:-1]])) if p.endswith("*") else types.int64 for p in kernel.signature]
    typing, lowering = contexts(target)
    try:
        result = compiler.compile_extra(typing, lowering, kernel.body(), (types.int64,) * 3 + tuple(kinds), types.void, flags(), {})
        with numba("core.compiler_lock").global_compiler_lock:
            result.library.finalize()
    except errors.NumbaError as error:
        raise CompilerBug(f"{kernel}: expected a function that Numba compiles, got {error}") from error
    name, module = result.fndesc.llvm_func_name, binding().parse_assembly(result.library.get_llvm_str())
    if reason := needs_interpreter(module, name):
        raise CompilerBug(f"{kernel}: expected a function that neither raises nor allocates, but it {reason}")
    return name, module


def needs_interpreter(module: Any, name: str) -> str:
    """What a compiled function does that only Python could follow up, or an empty string."""
    undefined = [f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")]
    if wrong := [function for function in undefined if function not in LIBM]:
        return f"calls {', '.join(wrong)}"
    ends = {str(i).strip() for block in module.get_function(name).blocks for i in block.instructions if i.opcode == "ret"}
    return "" if ends <= {"ret i32 0"} else "can end with an exception"


def element_type(dtype: Any) -> Any:
    """Numba's type of an element in memory; bool is a byte."""
    dtype = np.dtype(dtype)
    return numba("types").uint8 if dtype.kind == "b" else numba("np.numpy_support").from_dtype(dtype)


def flags() -> Any:
    """How to compile: nothing that needs an interpreter, and floating-point errors as NumPy has them."""
    chosen = numba("core.compiler").Flags()
    chosen.no_compile = chosen.no_cpython_wrapper = chosen.no_cfunc_wrapper = True
    chosen.enable_pyobject = chosen.nrt = False
    chosen.error_model = "numpy"
    return chosen


@functools.cache
def contexts(target: Target) -> tuple[Any, Any]:
    """Numba's typing rules, and its code generator set up for the target."""
    codegen, registry = numba("core.codegen"), numba("core.registry")
    is_native = target.architecture == host()[0].partition("-")[0]

    class Generator(codegen.AOTCPUCodegen):
        """Numba's ahead-of-time generator with the features of the target instead of none."""

        def _customize_tm_features(self) -> str:
            return target.features if is_native else ""

    typing, lowering = registry.cpu_target.typing_context, registry.cpu_target.target_context
    generator = Generator("tilewright", target.cpu if is_native else "")
    lowering = lowering.subtarget(_internal_codegen=generator, aot_mode=True)
    typing.refresh()
    lowering.refresh()
    return typing, lowering
