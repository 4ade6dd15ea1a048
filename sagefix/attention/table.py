"""The rules of this process: the facts, for the devices that calls really come on."""

import logging
import threading
from typing import Any, Dict, List, Optional, Tuple

import torch

from sagefix.attention.deciding import MOST_ELEMENTS, Rule, Rules, Table
from sagefix.attention.facts import Crossover, Device, Facts

_log = logging.getLogger("sagefix.attention")
_HEAD_DIMS = (64, 96, 128)
_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class TorchTable(Table):
    """Looks a device up when its first call comes, so that nobody starts CUDA before the program does.

    ``min_tokens`` takes the place of what was measured; ``require_proof=False`` that of a proof.
    """

    def __init__(self, facts: Facts, *, require_proof: bool, min_tokens: Optional[int]) -> None:
        self.facts = facts
        self.require_proof = require_proof
        self.min_tokens = min_tokens
        self.met: List[Device] = []
        counting = [each for each in facts.devices if each.proof or not require_proof]
        self.any_stream = bool(counting) and all(each.any_stream for each in counting)
        tokens = [each.tokens for device in facts.devices for each in device.crossovers]
        self.shortest = min_tokens or min(tokens, default=MOST_ELEMENTS)
        self._known: Dict[Tuple[str, Optional[int]], Optional[Rules]] = {}
        self._lock = threading.Lock()

        def rules_of(device_type: str, index: Optional[int]) -> Optional[Rules]:
            try:
                return self._known[device_type, index]
            except KeyError:
                return self._look_up(device_type, index)

        # What torch.compiler.assume_constant_result does, without the second that the import of Dynamo takes. It is a
        # function of this table's own, so that compiled code notices another one.
        rules_of._dynamo_marked_constant = True  # type: ignore[attr-defined]
        self.rules_of = rules_of

    def _look_up(self, device_type: str, index: Optional[int]) -> Optional[Rules]:
        with self._lock:
            if (device_type, index) not in self._known:
                self._known[device_type, index] = self._resolve(device_type, index)
            return self._known[device_type, index]

    def _resolve(self, device_type: str, index: Optional[int]) -> Optional[Rules]:
        name, capability = describe(device_type, index)
        device = self.facts.device(device_type, name, capability)
        if device is None:
            device = Device(type=device_type, name=name, capability=capability)
        known = bool(device.proof) or not self.require_proof
        why = "" if known else device.unproven or "nobody verified this kind of device"
        if known and device.proof and release(device.torch) != release(torch.__version__):
            why = f"it was proven with torch {device.torch}, and this is torch {torch.__version__}"
            if not self.require_proof:
                why = ""
        rules = {} if why else self._rules(device)
        if not why and not rules:
            why = "nobody measured from how many tokens on it is faster there (`sagefix bench`)"
        self.met.append(device)
        if why and device_type == "cuda":
            _log.warning("Attention on %s (%s) stays torch's own: %s.", name, capability, why)
        return rules or None

    def _rules(self, device: Device) -> Rules:
        longest = device.longest or MOST_ELEMENTS
        if self.min_tokens is not None:
            return {
                (dtype, head_dim, causal): Rule(self.min_tokens, 0, longest)
                for dtype in _DTYPES.values()
                for head_dim in _HEAD_DIMS
                for causal in (False, True)
            }
        return {
            (_DTYPES[each.dtype], each.head_dim, each.causal): _rule(each, longest)
            for each in device.crossovers
            if each.dtype in _DTYPES
        }


def _rule(each: Crossover, longest: int) -> Rule:
    return Rule(each.tokens, each.sequences * each.tokens**2, longest)


def describe(device_type: str, index: Optional[int]) -> Tuple[str, str]:
    """Return the name and capability of a device as facts have them: ``("NVIDIA H200", "9.0")``."""
    if device_type != "cuda" or torch.version.hip:
        return device_type, device_type
    found: Any = torch.cuda.get_device_properties(index)
    return str(found.name), f"{found.major}.{found.minor}"


def release(version: str) -> Tuple[str, ...]:
    """Return ``("2", "11")`` of ``2.11.0+cu130``: what a compiled extension depends on."""
    return tuple(version.split("+", 1)[0].split(".")[:2])
