"""The Triton kernels of `nfbench.nets.agc_fused`; importing this needs Triton.

Both run one program for each unit. ``table`` holds 2 · parameters addresses, those of the weights first; ``owner`` the
parameter of each unit, ``first`` the unit at which a parameter begins and ``length`` the elements of its units.
``w_like`` and ``g_like`` only give the types. ``counts`` is (2, SPREAD): clipped units, and units that are not finite.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _find(table, owner, first, length, w_like, g_like, parameters, unit, ALIGN: tl.constexpr, WHOLE: tl.constexpr):
    """Where the unit's rows begin, and how many elements they have: 0 where there is no gradient.

    The compiler may take it that rows begin on ALIGN bytes and that their elements are a multiple of WHOLE.
    """
    p = tl.load(owner + unit)
    n = tl.multiple_of(tl.load(length + p), WHOLE)
    start = (unit - tl.load(first + p)) * n
    g_address = tl.load(table + parameters + p)
    w_row = tl.multiple_of(tl.load(table + p).to(w_like.dtype) + start, ALIGN)
    g_row = tl.multiple_of(g_address.to(g_like.dtype) + start, ALIGN)
    return w_row, g_row, tl.where(g_address == 0, 0, n)


@triton.jit
def _judge(w_squares, g_squares, counts, unit, clipping, eps, LEAST_NORM: tl.constexpr, SPREAD: tl.constexpr):
    """Whether the unit is over its limit and the factor that brings it there, 1 where it is not; counts it."""
    w_norm = tl.sqrt_rn(tl.sum(w_squares, 0))
    g_norm = tl.sqrt_rn(tl.sum(g_squares, 0))
    # not tl.maximum, which would make eps of NaN
    max_norm = tl.where(w_norm < eps, eps, w_norm) * clipping
    finite = g_norm < float("inf")
    over = finite & (g_norm > max_norm)
    tl.atomic_add(counts + unit % SPREAD, 1, mask=over, sem="relaxed")
    tl.atomic_add(counts + SPREAD + unit % SPREAD, 1, mask=finite == 0, sem="relaxed")
    return over, tl.where(over, tl.div_rn(max_norm, tl.maximum(g_norm, LEAST_NORM)), 1.0)


@triton.jit(do_not_specialize=["parameters"])
def clip_aligned(
    table,
    owner,
    first,
    length,
    w_like,
    g_like,
    counts,
    parameters,
    clipping,
    eps,
    LEAST_NORM: tl.constexpr,
    SPREAD: tl.constexpr,
    BLOCK: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """A unit that fits in BLOCK and whose rows begin and end on 16 bytes: W and G are read once.

    WHOLE elements fill 16 bytes in the narrower of the two types.
    """
    unit = tl.program_id(0)
    w_row, g_row, n = _find(table, owner, first, length, w_like, g_like, parameters, unit, 16, WHOLE)
    places = tl.arange(0, BLOCK)
    inside = places < n
    w = tl.load(w_row + places, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(g_row + places, mask=inside, other=0.0).to(tl.float32)
    over, factor = _judge(w * w, g * g, counts, unit, clipping, eps, LEAST_NORM, SPREAD)
    written = places < tl.where(over, n, 0)
    tl.store(g_row + places, (g * factor).to(g_like.dtype.element_ty), mask=written)


@triton.jit(do_not_specialize=["parameters"])
def clip_looped(
    table,
    owner,
    first,
    length,
    w_like,
    g_like,
    counts,
    parameters,
    clipping,
    eps,
    LEAST_NORM: tl.constexpr,
    SPREAD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A unit of any length and place; the gradient of a clipped one is read a second time."""
    unit = tl.program_id(0)
    w_row, g_row, n = _find(table, owner, first, length, w_like, g_like, parameters, unit, 1, 1)
    places = tl.arange(0, BLOCK)
    w_squares = tl.zeros([BLOCK], tl.float32)
    g_squares = tl.zeros([BLOCK], tl.float32)
    for begin in range(0, n, BLOCK):
        inside = begin + places < n
        w = tl.load(w_row + begin + places, mask=inside, other=0.0).to(tl.float32)
        g = tl.load(g_row + begin + places, mask=inside, other=0.0).to(tl.float32)
        w_squares += w * w
        g_squares += g * g
    over, factor = _judge(w_squares, g_squares, counts, unit, clipping, eps, LEAST_NORM, SPREAD)
    for begin in range(0, tl.where(over, n, 0), BLOCK):
        inside = begin + places < n
        g = tl.load(g_row + begin + places, mask=inside, other=0.0).to(tl.float32)
        tl.store(g_row + begin + places, (g * factor).to(g_like.dtype.element_ty), mask=inside)
