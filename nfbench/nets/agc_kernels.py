"""The Triton kernels of `nfbench.nets.agc_triton`; importing this needs Triton.

Both run one program for each unit. ``table`` holds 2 · parameters addresses, those of the weights first; ``owner`` the
parameter of each unit, ``first`` the unit at which a parameter begins and ``length`` the elements of its units.
``w_like`` and ``g_like`` only give the types. ``counts`` is (2, SPREAD): clipped units, and units that are not finite.
"""

from __future__ import annotations

import triton
import triton.language as tl


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
    p = tl.load(owner + unit)
    n = tl.multiple_of(tl.load(length + p), WHOLE)
    start = (unit - tl.load(first + p)) * n
    g_address = tl.load(table + parameters + p)
    n = tl.where(g_address == 0, 0, n)
    w_row = tl.multiple_of(tl.load(table + p).to(w_like.dtype) + start, 16)
    g_row = tl.multiple_of(g_address.to(g_like.dtype) + start, 16)
    places = tl.arange(0, BLOCK)
    inside = places < n
    w = tl.load(w_row + places, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(g_row + places, mask=inside, other=0.0).to(tl.float32)
    w_norm = tl.sqrt_rn(tl.sum(w * w, 0))
    g_norm = tl.sqrt_rn(tl.sum(g * g, 0))
    # not tl.maximum, which would make eps of NaN
    max_norm = tl.where(w_norm < eps, eps, w_norm) * clipping
    finite = g_norm < float("inf")
    over = finite & (g_norm > max_norm)
    shorter = g * tl.where(over, tl.div_rn(max_norm, tl.maximum(g_norm, LEAST_NORM)), 1.0)
    tl.store(g_row + places, shorter.to(g_like.dtype.element_ty), mask=places < tl.where(over, n, 0))
    tl.atomic_add(counts + unit % SPREAD, 1, mask=over, sem="relaxed")
    tl.atomic_add(counts + SPREAD + unit % SPREAD, 1, mask=finite == 0, sem="relaxed")


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
    p = tl.load(owner + unit)
    n = tl.load(length + p)
    start = (unit - tl.load(first + p)) * n
    g_address = tl.load(table + parameters + p)
    n = tl.where(g_address == 0, 0, n)
    w_row = tl.load(table + p).to(w_like.dtype) + start
    g_row = g_address.to(g_like.dtype) + start
    places = tl.arange(0, BLOCK)
    w_squares = tl.zeros([BLOCK], tl.float32)
    g_squares = tl.zeros([BLOCK], tl.float32)
    for begin in range(0, n, BLOCK):
        inside = begin + places < n
        w = tl.load(w_row + begin + places, mask=inside, other=0.0).to(tl.float32)
        g = tl.load(g_row + begin + places, mask=inside, other=0.0).to(tl.float32)
        w_squares += w * w
        g_squares += g * g
    w_norm = tl.sqrt_rn(tl.sum(w_squares, 0))
    g_norm = tl.sqrt_rn(tl.sum(g_squares, 0))
    # not tl.maximum, which would make eps of NaN
    max_norm = tl.where(w_norm < eps, eps, w_norm) * clipping
    finite = g_norm < float("inf")
    over = finite & (g_norm > max_norm)
    factor = tl.div_rn(max_norm, tl.maximum(g_norm, LEAST_NORM))
    for begin in range(0, tl.where(over, n, 0), BLOCK):
        inside = begin + places < n
        g = tl.load(g_row + begin + places, mask=inside, other=0.0).to(tl.float32)
        tl.store(g_row + begin + places, (g * factor).to(g_like.dtype.element_ty), mask=inside)
    tl.atomic_add(counts + unit % SPREAD, 1, mask=over, sem="relaxed")
    tl.atomic_add(counts + SPREAD + unit % SPREAD, 1, mask=finite == 0, sem="relaxed")
