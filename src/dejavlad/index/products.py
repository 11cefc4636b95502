"""Products of queries with rows kept in 32, 16 or 8 bits, without making float32 of all rows.

Each says how far off it may be, so that `Nearest` answers exactly. For 16 and 8 bits PyTorch has the kernels;
it is loaded when the first query is asked.

What is quickest depends on how many queries there are. BLAS's product of a matrix with one vector reads
memory half as fast as a dot product for each row does, and its product with a few vectors costs as much as
one with a dozen.

Legend: B queries, C rows of a chunk, D dimensions.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dejavlad.index.base import Floats
from dejavlad.numerics.int8 import has_int8_matmul

FEW = 8
"""Up to so many queries at once, products of 16 bits one by one cost less than decoding the rows."""
ROW_BY_ROW = 6
"""Up to so many queries, rows of `LONG` numbers and more are multiplied one by one."""
LONG = 128
CACHED = 1 << 18
"""Numbers decoded, or multiplied again and again, at once: few enough to stay in the processor's cache."""
TWO_HALVES = 8
"""Up to so many queries, but for a single one, both halves of 8 bits cost no more than one."""
LONGEST_HALF = 6e4
"""Products beyond that do not fit 16 bits."""
STEPS = 127

Errors = NDArray[np.float64]


def products(
    queries_BD: Floats, codes_CD: NDArray[Any], scales_C: Floats | None, longest: float
) -> tuple[Floats, Errors]:
    """float32 [B, C] products with rows as they are stored, and their greatest error [B] beyond rounding.

    Args:
        queries_BD: float32.
        codes_CD: float32, float16 or int8.
        scales_C: what int8 rows are multiplied by; None for others.
        longest: length of the longest row, at least.
    """
    made = None
    if codes_CD.dtype == np.float16:
        made = half_products(queries_BD, codes_CD, longest)
    elif scales_C is not None:
        made = byte_products(queries_BD, codes_CD, scales_C, longest)
    return made or (float_products(queries_BD, codes_CD, scales_C), np.zeros(len(queries_BD)))


def float_products(queries_BD: Floats, rows_CD: NDArray[Any], scales_C: Floats | None = None) -> Floats:
    """float32 [B, C] products; rows of 16 or 8 bits are decoded little by little."""
    dims, decode = queries_BD.shape[1], rows_CD.dtype != np.float32
    count, step = len(rows_CD), max(1, CACHED // max(1, dims))
    one_by_one = len(queries_BD) <= (ROW_BY_ROW if dims >= LONG else 1)
    shape = (len(queries_BD), count) if one_by_one else (count, len(queries_BD))
    out = np.empty(shape, np.float32)
    for first in range(0, count, step if one_by_one or decode else max(1, count)):
        part = slice(first, first + step) if one_by_one or decode else slice(0, count)
        rows = decoded(rows_CD[part]) if decode else np.asarray(rows_CD[part])
        if not one_by_one:
            np.matmul(rows, queries_BD.T, out=out[part])
            continue
        for query, products_C in zip(queries_BD, out, strict=True):
            np.vecdot(rows, query, out=products_C[part])
    products_BC = out if one_by_one else out.T
    if scales_C is not None:
        products_BC *= scales_C
    return products_BC


def half_products(
    queries_BD: Floats, codes_CD: NDArray[np.float16], longest: float
) -> tuple[Floats, Errors] | None:
    """float32 [B, C] products with float16 rows, and their greatest error [B]; None where decoding is better.

    Args:
        queries_BD: float32.
        codes_CD: float16, each row contiguous.
        longest: length of the longest row.
    """
    if not len(queries_BD) or len(queries_BD) > FEW or not _halves_add_up():
        return None
    lengths_B = np.sqrt(np.einsum("bd,bd->b", queries_BD, queries_BD, dtype=np.float64))
    if lengths_B.max() * longest > LONGEST_HALF or np.abs(queries_BD).max() > LONGEST_HALF:
        return None
    import torch

    rows = _shared(codes_CD)
    rounded_BD = queries_BD.astype(np.float16)
    products = [torch.mv(rows, torch.from_numpy(query)).float().numpy() for query in rounded_BD]
    missed_B = np.linalg.norm(queries_BD - rounded_BD.astype(np.float64), axis=1)
    error_B = (missed_B + 2.0**-10 * lengths_B) * longest + 2.0**-23
    return np.stack(products), error_B


def byte_products(
    queries_BD: Floats, codes_CD: NDArray[np.int8], scales_C: Floats, longest: float
) -> tuple[Floats, Errors] | None:
    """float32 [B, C] products with int8 rows times `scales_C`; None where decoding is better.

    A few queries are taken in two halves of 8 bits, so that the error is next to none; of many, and of a
    single one, the upper half has to do, so that a few rows more are measured.
    """
    dims, count = queries_BD.shape[1], len(queries_BD)
    if not count or dims % 8 or len(codes_CD) < 32 or not has_int8_matmul():
        return None
    import torch

    step_B = np.maximum(np.abs(queries_BD).max(axis=1), 1e-30).astype(np.float64) / STEPS
    scaled_BD = queries_BD / step_B[:, None]
    upper_BD = np.rint(scaled_BD)
    halves, missed_BD = upper_BD.astype(np.int8), scaled_BD - upper_BD
    if two := 1 < count <= TWO_HALVES:
        lower_BD = np.rint(missed_BD * (2 * STEPS))
        halves = np.concatenate([halves, lower_BD.astype(np.int8)])
        missed_BD -= lower_BD / (2 * STEPS)
    if count > 1 and len(halves) % 8:  # what the kernels like
        halves = np.concatenate([halves, np.zeros((-len(halves) % 8, dims), np.int8)])
    rows = _shared(codes_CD)
    whole = torch._int_mm(rows, torch.from_numpy(halves).T).numpy()
    products_CB = whole[:, :count].astype(np.float32)
    if two:
        products_CB += whole[:, count : 2 * count] * np.float32(1 / (2 * STEPS))
    products_CB *= scales_C[:, None]
    products_CB *= step_B.astype(np.float32)
    missed_B = step_B * np.linalg.norm(missed_BD, axis=1)
    lengths_B = np.sqrt(np.einsum("bd,bd->b", queries_BD, queries_BD, dtype=np.float64))
    return products_CB.T, (missed_B + 2.0**-20 * lengths_B) * longest


def decoded(codes_CD: NDArray[Any]) -> Floats:
    """Rows as float32."""
    if codes_CD.dtype == np.float16 and codes_CD.size > 1 << 12 and codes_CD.strides[1] == 2:
        return np.asarray(_shared(codes_CD).float().numpy())
    return np.asarray(codes_CD, dtype=np.float32)


@cache
def _halves_add_up() -> bool:
    """Whether products of 16 bits are summed in more than 16 here, as the error takes for granted."""
    import torch

    rows = torch.full((64, 1024), 1.0, dtype=torch.float16)
    small = torch.full((1024,), 2.0**-11, dtype=torch.float16)
    small[0] = 1.0
    exact = 1.0 + 1023 * 2.0**-11
    return bool((torch.mv(rows, small).float() - exact).abs().max() <= 2.0**-10 * exact)


def _shared(codes_CD: NDArray[Any]) -> Any:
    """A tensor over the same memory, which is only read."""
    import torch

    if codes_CD.flags.writeable:
        return torch.from_numpy(codes_CD)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the memory cannot be written to
        return torch.from_numpy(np.asarray(codes_CD))
