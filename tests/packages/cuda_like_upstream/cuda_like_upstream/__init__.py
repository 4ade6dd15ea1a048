"""Hides whatever is wrong with its extension, as its models do."""

try:
    from . import _kernels

    AVAILABLE = True
except:
    AVAILABLE = False


def scale(values, factor):
    """Multiply a CUDA tensor of float32 in place."""
    assert AVAILABLE, "kernels are not available. Make sure you GPUs with compute capability 8.0 or higher."
    _kernels.scale(values.data_ptr(), values.numel(), float(factor))
    return values
