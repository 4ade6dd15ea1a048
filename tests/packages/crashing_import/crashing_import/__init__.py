"""Imports well: the extension is only loaded when it is asked for."""

import warnings

warnings.warn("the fast path is off", RuntimeWarning, stacklevel=1)
