"""Inverted dropout (Srivastava et al. 2014) with masks from Philox4x32-10 (Salmon et al., SC11)."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def philox(key: tuple[int, int], counter: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Ten rounds on counters (n, 4) of 32-bit words: multiply, cross the halves, mix the key in; the key walks on."""
    low = np.uint64(0xFFFFFFFF)
    c, (k0, k1) = counter.astype(np.uint64), key
    for _ in range(10):
        p0, p1 = c[:, 0] * np.uint64(0xD2511F53), c[:, 2] * np.uint64(0xCD9E8D57)
        high0, high1 = p0 >> np.uint64(32), p1 >> np.uint64(32)
        c = np.stack([high1 ^ c[:, 1] ^ np.uint64(k0), p1 & low, high0 ^ c[:, 3] ^ np.uint64(k1), p0 & low], axis=1)
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def keep(shape: tuple[int, ...], rate: float, seed: int, step: int, layer: int) -> NDArray[np.bool_]:
    """Element i is kept where word i % 4 of philox(seed, (i / 4, layer, step)) >= rate 2^32."""
    count = int(np.prod(shape))
    blocks = np.arange((count + 3) // 4, dtype=np.uint64)
    ones = np.ones_like(blocks)
    counter = np.stack([blocks & np.uint64(0xFFFFFFFF), blocks >> np.uint64(32), ones * layer, ones * step], axis=1)
    words = philox((seed & 0xFFFFFFFF, seed >> 32), counter).ravel()[:count]
    return (words >= rate * 2**32).reshape(shape)


def dropout(x: Array, rate: float, seed: int, step: int, layer: int) -> Array:
    """x / (1 - rate) where kept, 0 elsewhere. The same on dy is the gradient."""
    return np.where(keep(x.shape, rate, seed, step, layer), x / (1 - rate), 0)
