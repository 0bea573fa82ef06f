"""A vector of 16 float32 lanes inside numba kernels.

numba leaves vectorising to LLVM's heuristics, which give up on loops that touch as many arrays as compositing does. Here the vector is
a type of its own (LLVM's <16 x float>: one AVX-512 register, two AVX, four NEON), so the kernels say what they mean:

    v = vload(array, i);  w = vfill(scalar);  v * w + v, v - w, v / w;  vmin, vmax, vabs;  vabove(a, b, x, y) = x where a > b else y
    vstore(array, i, v);  vsum(v), vlargest(v) → scalar

Arrays are 1-D contiguous float32; nothing checks bounds. Multiplications and additions may fuse; NaN and ±inf keep their meaning.
Caution when editing: numba's disk cache watches only the file of the kernel it cached, not this one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending
from numba.core import types
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

LANES = 16
_FUSE = ("contract", "nsz", "arcp")


def _intrinsic(typing_function: Callable[..., Any]) -> Callable[..., Any]:
    """numba's decorator, typed as what callers see: the first argument is numba's own."""
    return extending.intrinsic(typing_function)  # pyright: ignore[reportReturnType, reportCallIssue]


class FloatVector(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


float_vector = FloatVector()
_ir_vector = ir.VectorType(ir.FloatType(), LANES)


@register_model(FloatVector)
class _FloatVectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _ir_vector)


def _arithmetic(symbol: Any, instruction: str) -> None:
    class Template(ConcreteTemplate):
        cases = [signature(float_vector, float_vector, float_vector)]  # noqa: RUF012 - numba's own protocol

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args, flags=_FUSE)

    infer_global(symbol)(Template)  # pyright: ignore[reportOptionalCall]
    lower_builtin(symbol, float_vector, float_vector)(lower)


for _symbol, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv")):
    _arithmetic(_symbol, _instruction)


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), ir.PointerType(_ir_vector))


@_intrinsic
def vload(typingctx: Any, array: Any, index: Any) -> Any:
    """Lanes array[index : index + 16]."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, sig.args[0], args[0], args[1]), align=4)

    return float_vector(array, types.intp), codegen


@_intrinsic
def vstore(typingctx: Any, array: Any, index: Any, vector: Any) -> Any:
    """array[index : index + 16] = lanes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _address(context, builder, sig.args[0], args[0], args[1]), align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, float_vector), codegen


@_intrinsic
def vfill(typingctx: Any, value: Any) -> Any:
    """The same scalar in every lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        empty = ir.Constant(_ir_vector, ir.Undefined)
        first = builder.insert_element(empty, args[0], ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(first, empty, mask)

    return float_vector(types.float32), codegen


@_intrinsic
def vabove(typingctx: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    """x where a > b, else y (also where a or b is NaN)."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return float_vector(float_vector, float_vector, float_vector, float_vector), codegen


@_intrinsic
def vmax(typingctx: Any, a: Any, b: Any) -> Any:
    """The larger of each lane; b where a is NaN."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[0], args[1])

    return float_vector(float_vector, float_vector), codegen


@_intrinsic
def vmin(typingctx: Any, a: Any, b: Any) -> Any:
    """The smaller of each lane; b where a is NaN."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[0], args[1])

    return float_vector(float_vector, float_vector), codegen


def _llvm_call(builder: Any, name: str, result: Any, args: list[Any], fastmath: tuple[str, ...] = ()) -> Any:
    function_type = ir.FunctionType(result, [a.type for a in args])
    module = builder.module
    function = module.globals.get(name) or ir.Function(module, function_type, name)
    return builder.call(function, args, fastmath=fastmath)


@_intrinsic
def vabs(typingctx: Any, a: Any) -> Any:
    """|a| in each lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _llvm_call(builder, f"llvm.fabs.v{LANES}f32", _ir_vector, [args[0]])

    return float_vector(float_vector), codegen


@_intrinsic
def vsum(typingctx: Any, a: Any) -> Any:
    """Sum of the lanes, as a tree."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zero = ir.Constant(ir.FloatType(), 0.0)
        return _llvm_call(builder, f"llvm.vector.reduce.fadd.v{LANES}f32", ir.FloatType(), [zero, args[0]], ("reassoc", "nsz"))

    return types.float32(float_vector), codegen


@_intrinsic
def vlargest(typingctx: Any, a: Any) -> Any:
    """Largest of the lanes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _llvm_call(builder, f"llvm.vector.reduce.fmax.v{LANES}f32", ir.FloatType(), [args[0]], ("nnan", "nsz"))

    return types.float32(float_vector), codegen
