"""Ways to compute attention, as they are called, and what their errors mean. Runs inside the target, for bench.py.

A backend is described by what ``sagefix.proof.benchmark.table.Backend`` says of it. Whatever a call needs that is not
attention itself (views of the inputs, the choice among torch's backends) happens outside of :attr:`Ready.call`.
"""

import contextlib
import importlib
import re
import warnings
from typing import Any, Callable, ContextManager, Dict, List, Tuple

# In the order of looking; a text is searched without regard to case.
_MEANINGS = (
    ("out of memory", r"out of memory|not enough memory|can.t allocate memory"),
    (
        "no kernel",
        r"no available kernel|no viable backend|kernel is not available|unsupported cuda architecture"
        r"|no kernel image|not compiled with|gpus? or newer|requires? .{0,40}(compute capability|ampere|hopper)"
        r"|no operator found",
    ),
    ("refused", r"dtype|data type|head_?dim|head size|headdim|must be (on cuda|a cuda)|only supports?"),
)
_TEXT = 400


class MissingError(Exception):
    """The package of a backend is not installed."""


class Ready:
    """A backend that can be called: ``call(*inputs, causal)``, inside ``around()``."""

    def __init__(
        self, call: Callable[..., Any], layout: str, around: Callable[[], ContextManager[Any]]
    ) -> None:
        self.call = call
        self.swapped = layout == "NHD"
        self.around = around

    def inputs(self, tensors: Tuple[Any, ...]) -> Tuple[Any, ...]:
        """Return views of ``(batch, heads, tokens, head_dim)`` in the layout that the call takes."""
        return tuple(each.transpose(1, 2) for each in tensors) if self.swapped else tensors

    def output(self, found: Any) -> Any:
        """Return the attention alone as ``(batch, heads, tokens, head_dim)``; some calls return more beside it."""
        first = found[0] if isinstance(found, (tuple, list)) else found
        return first.transpose(1, 2) if self.swapped else first


def load(backend: Dict[str, Any]) -> Ready:
    """Import what a backend needs. Raises :class:`MissingError`, or what the import raises."""
    if backend["kind"] == "sdpa":
        return _sdpa(backend["choice"])
    module = _import(backend["module"])
    function = getattr(module, backend["attribute"])
    keyword, mask = backend["causal"], backend["causal_mask"]

    def call(q: Any, k: Any, v: Any, causal: bool) -> Any:
        if keyword:
            return function(q, k, v, **{keyword: causal})
        if causal:
            return function(q, k, v, attn_bias=getattr(module, mask)())
        return function(q, k, v)

    return Ready(call, backend["layout"], contextlib.nullcontext)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # What the package itself lacks is another matter: then it is there and broken.
        if error.name is not None and (name + ".").startswith(error.name + "."):
            raise MissingError("%s is not installed." % name.partition(".")[0]) from error
        raise


def _sdpa(choice: str) -> Ready:
    from torch.nn.functional import scaled_dot_product_attention

    def call(q: Any, k: Any, v: Any, causal: bool) -> Any:
        return scaled_dot_product_attention(q, k, v, is_causal=causal)

    if not choice:
        return Ready(call, "HND", contextlib.nullcontext)
    try:
        # https://docs.pytorch.org/docs/stable/generated/torch.nn.attention.sdpa_kernel.html: from torch 2.3 on
        attention = importlib.import_module("torch.nn.attention")
        chosen = getattr(attention.SDPBackend, choice)
    except (ImportError, AttributeError) as error:
        raise MissingError("This torch has no %s." % choice) from error
    return Ready(call, "HND", lambda: attention.sdpa_kernel(chosen))


def attempt(do: Callable[[], Any]) -> Any:
    """Return what a call gives; the reasons that torch only warns of are added to the error it raises."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            return do()
        except Exception as error:
            error.sagefix_reasons = _reasons([str(each.message) for each in caught])  # type: ignore[attr-defined]
            raise


def _reasons(told: List[str]) -> str:
    """Join what torch warned of: it says for every backend why it was not used, and where in its source."""
    kept: List[str] = []
    for text in told:
        short = " ".join(text.partition("(Triggered internally")[0].split())
        # What is switched off was switched off by the choice of another.
        if short and not short.endswith(("not used because:", "runtime disabled.")) and short not in kept:
            kept.append(short)
    return " ".join(kept)


def classify(error: BaseException) -> Tuple[str, str]:
    """Return the status that an error means, and its text."""
    if isinstance(error, MissingError):
        return "not installed", str(error)
    said = " ".join(str(error).split())
    reasons = getattr(error, "sagefix_reasons", "")
    kind = type(error).__name__
    text = ("%s: %s" % (kind, said) if said else kind) + (" " + reasons if reasons else "")
    if kind == "OutOfMemoryError" or isinstance(error, MemoryError):
        return "out of memory", text[:_TEXT]
    for status, pattern in _MEANINGS:
        if re.search(pattern, text, re.IGNORECASE):
            return status, text[:_TEXT]
    return "failed", text[:_TEXT]
