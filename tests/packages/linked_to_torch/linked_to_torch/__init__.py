"""One function of a library of torch's, whose name is another in each of its releases."""

import torch  # noqa: F401 - its libraries have to be loaded first

from linked_to_torch._ops import answer

__all__ = ["answer"]
