"""The type of token ids."""

from __future__ import annotations

import numpy as np

TokenIds = np.ndarray[tuple[int], np.dtype[np.int32]]
"""(T,) token ids."""
