"""Keep the memory that one batch freed for the next one, instead of returning it to the kernel.

A batch frees tensors of tens of megabytes and the next asks for the same again. glibc maps such blocks
anew each time, and the kernel clears every page of them at its first touch. Measured on one core with
glibc 2.36 and a 6 M-parameter Llama, 16 texts of 256 tokens, CPU seconds per step before and after: forward
with logits 1.07 and 0.91, forward and backward 4.0 and 3.4, an elementwise chain over 32 MB 0.067 and 0.012;
peak resident memory grew by 0 to 9 % for the model and from 319 to 543 MiB for the chain.
"""

from __future__ import annotations

import ctypes
import platform

# malloc.h; the numbers are part of glibc's binary interface
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_KEPT = 1 << 30
_STEP = 64 << 20


def keep_freed_memory() -> bool:
    """Tell the C library to keep up to 1 GiB of freed memory in the process.

    It holds for the whole process from now on and may be called again. Meant for programs that loop over
    batches on a CPU; a library should leave the choice to its caller.

    Returns:
        Whether it took effect: False where the C library is not glibc, or is an older one
        that refuses to keep blocks above 32 MiB.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # all three are set, whatever the answer to the first
    return all([
        mallopt(_M_MMAP_THRESHOLD, _KEPT),
        mallopt(_M_TRIM_THRESHOLD, _KEPT),
        mallopt(_M_TOP_PAD, _STEP),
    ])
