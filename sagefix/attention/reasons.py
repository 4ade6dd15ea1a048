"""Why a call goes to torch's own attention: one word each, as :func:`sagefix.attention.status` counts them."""

from typing import Dict

ROUTED = ""
"""What a decision says of a call that goes to SageAttention."""

MASK = "mask"
DROPOUT = "dropout"
ARGUMENTS = "arguments"
KIND = "kind"
SHAPE = "shape"
SHORT = "short"
DEVICE = "device"
DTYPE = "dtype"
UNMEASURED = "unmeasured"
SMALL = "small"
LONG = "long"
CAUSAL = "causal"
SCALE = "scale"
LAYOUT = "layout"
AUTOGRAD = "autograd"
AUTOCAST = "autocast"
TRANSFORM = "transform"
MODE = "mode"
STREAM = "stream"
FAILED = "failed"

WORDS: Dict[str, str] = {
    MASK: "attn_mask is given; sageattn ignores it",
    DROPOUT: "dropout_p is not 0; sageattn ignores it",
    ARGUMENTS: "an argument that this version of sagefix does not know",
    KIND: "a tensor subclass, a nested or sparse tensor, a fake one, or no tensor at all",
    SHAPE: "not 4-D, batches that differ, or heads that do not divide (enable_gqa)",
    SHORT: "fewer queries or keys than the crossover",
    DEVICE: "queries, keys and values are not on one device that is proven and measured",
    DTYPE: "not one dtype of fp16 or bf16",
    UNMEASURED: "nobody measured from where on this dtype, head_dim and is_causal are faster on this device",
    SMALL: "too few heads and batches for the crossover that was measured",
    LONG: "longer than what was proven, or more than 2**31 elements",
    CAUSAL: "is_causal with different lengths of queries and keys",
    SCALE: "scale is not a positive number",
    LAYOUT: "head_dim is not contiguous in memory",
    AUTOGRAD: "a gradient is needed",
    AUTOCAST: "autocast would change the dtype",
    TRANSFORM: "inside torch.func (vmap, grad, ...), forward-mode differentiation or torch.jit.trace",
    MODE: "a mode of torch watches or replaces calls",
    STREAM: "another stream than the default one, a CUDA graph or torch.compile, with a build that is right on the "
    "default stream only",
    FAILED: "sageattn raised an error",
}
"""What the words mean."""
