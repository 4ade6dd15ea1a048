"""What torch's state says about a call."""

from typing import Any

import torch
from torch.autograd import forward_ad

from sagefix.attention.deciding import Surroundings


class TorchSurroundings(Surroundings):
    """Asks torch; Dynamo can trace through all of it."""

    tensor = torch.Tensor
    dtypes = (torch.float16, torch.bfloat16)

    def needs_grad(self, query: Any, key: Any, value: Any) -> bool:
        """Tell whether autograd has to see the call."""
        wanted: bool = query.requires_grad or key.requires_grad or value.requires_grad
        return wanted and torch.is_grad_enabled()

    def autocast_to(self, device_type: str) -> Any:
        """Return the dtype that autocast would convert to, or None when it is off."""
        return torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else None

    def transforming(self) -> bool:
        """Tell whether torch.func, forward-mode differentiation is at work."""
        # Inside of vmap the type of a tensor is still torch.Tensor.
        active: bool = torch._C._are_functorch_transforms_active()
        return active or forward_ad._current_level >= 0

    def watched(self) -> bool:
        """Tell whether a mode sees the calls of this thread.

        ``with torch.device(...)`` and ``torch.set_default_device`` are modes as well; they only look at calls that
        make tensors.
        """
        if torch.compiler.is_compiling():
            # Dynamo keeps modes of its own while it traces.
            return False
        if torch._C._len_torch_dispatch_stack():
            return True
        return any(
            type(torch._C._get_function_stack_at(index)).__name__ != "DeviceContext"
            for index in range(torch._C._len_torch_function_stack())
        )

    def default_stream_only(self, device: Any) -> bool:
        """Tell whether the call runs on the default stream, outside of CUDA graphs and compiled code.

        A CUDA graph is captured on a stream of its own, and what is compiled may become one.
        """
        if torch.compiler.is_compiling():
            return False
        if device.type != "cuda":
            return True
        return bool(torch.cuda.current_stream(device) == torch.cuda.default_stream(device))
