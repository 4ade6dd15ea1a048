"""What surrounds a call in real programs: a side stream, a CUDA graph, ``torch.compile``, another current GPU.

Each returns what came of every try; a try that is wrong is wrong in silence, with no error and often no NaN.
Runs inside the target, imports nothing of sagefix.
"""

import sys
import warnings
from typing import Any, Callable, Dict, List, Optional

import torch

neighbour: Callable[[str], Any] = sys.modules["__main__"].neighbour

# Tens of milliseconds at the clock of any GPU: far longer than it takes to launch a call behind it.
_SLEEP_CYCLES = 100_000_000
_WARM_UPS = 3


class Turns:
    """A call on tensors that stay where they are, and new numbers for them with their reference."""

    def __init__(
        self, backend: Any, case: Dict[str, Any], function: Dict[str, Any], call: Any, device: Any
    ) -> None:
        self.backend, self.case, self.function, self.call, self.device = backend, case, function, call, device
        self.plain = neighbour("numerics_torch")
        self.calling = self.plain.Call(case, function, call, self.plain.Inputs(case, device))
        self.sdpa: Optional[Dict[str, Any]] = None
        self.runs: List[Dict[str, Any]] = []
        self.fresh: Any = None
        self.references: List[Any] = []

    def turn(self, number: int) -> None:
        """Make new inputs and their reference."""
        inputs = self.plain.Inputs(self.case, self.device, turn=number)
        self.references = self.backend.references(self.case, inputs)
        if self.sdpa is None:
            self.sdpa = self.backend.sdpa(self.case, inputs, self.references)
        self.fresh = self.plain.Call(self.case, self.function, self.call, inputs)

    def hand_over(self) -> None:
        """Write the new numbers into the tensors of the call."""
        for old, new in zip(self.calling.tensors, self.fresh.tensors):
            old.copy_(new)

    def judge(self, found: Any) -> None:
        """Compare what came out of a try."""
        outputs = self.calling.outputs(found)
        self.runs.append(dict(self.backend.compare(outputs, self.references).numbers()))

    def result(self, **more: Any) -> Dict[str, Any]:
        """Return what came of all tries."""
        return dict({"status": "done", "runs": self.runs, "sdpa": self.sdpa}, **more)


def long_work() -> None:
    """Keep the current stream busy for a while."""
    torch.cuda._sleep(_SLEEP_CYCLES)


def stream(
    backend: Any, case: Dict[str, Any], function: Dict[str, Any], call: Any, device: Any
) -> Dict[str, Any]:
    """Inputs are written on a side stream behind long work: a kernel on another stream comes too early."""
    turns = Turns(backend, case, function, call, device)
    side = torch.cuda.Stream(device)
    for number in range(case["tries"] + 1):
        turns.turn(number)
        for tensor in turns.calling.tensors:
            tensor.zero_()
        backend.wait()
        with torch.cuda.stream(side):
            long_work()
            turns.hand_over()
            poison = torch.full_like(turns.calling.tensors[0], float("nan"))
            del poison
            found = turns.calling()
        backend.wait()
        # The first loads code and fetches memory, which waits for all streams and hides what is looked for.
        if number:
            turns.judge(found)
    return turns.result()


def graph(
    backend: Any, case: Dict[str, Any], function: Dict[str, Any], call: Any, device: Any
) -> Dict[str, Any]:
    """Captured once, replayed with new inputs; the output is filled with NaN before each replay.

    Warmed up on a side stream first, as https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs says.
    """
    turns = Turns(backend, case, function, call, device)
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UPS):
            turns.calling()
    torch.cuda.current_stream().wait_stream(side)
    backend.wait()
    captured = torch.cuda.CUDAGraph()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with torch.cuda.graph(captured):
            found = turns.calling()
    for number in range(1, case["tries"] + 1):
        turns.turn(number)
        turns.hand_over()
        found.fill_(float("nan"))
        backend.wait()
        captured.replay()
        backend.wait()
        turns.judge(found)
    return turns.result(notes=texts(caught))


def compiled(
    backend: Any, case: Dict[str, Any], function: Dict[str, Any], call: Any, device: Any
) -> Dict[str, Any]:
    """``torch.compile`` of a small function around the call."""
    turns = Turns(backend, case, function, call, device)
    options = turns.calling.options
    mode = "default" if case["mode"] == "compile" else "reduce-overhead"

    def around(q: Any, k: Any, v: Any) -> Any:
        return call(q * 1.0, k, v, **options) + 0.0

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = torch.compile(around, mode=mode)
        for number in range(case["tries"]):
            turns.turn(number)
            if not number:
                # Later, memory of graphs would have to be left alone.
                backend.poison(device, turns.calling.tensors[0])
            if mode == "reduce-overhead":
                torch.compiler.cudagraph_mark_step_begin()
            found = run(*turns.fresh.tensors)
            backend.wait()
            turns.judge(found.clone())
    torch.compiler.reset()
    return turns.result(notes=texts(caught))


def other_device(
    backend: Any, case: Dict[str, Any], function: Dict[str, Any], call: Any, device: Any
) -> Dict[str, Any]:
    """The tensors are on one GPU while another is the current one, as in programs that use several."""
    count = torch.cuda.device_count()
    if count < 2:
        return {"status": "skipped", "text": "Needs two GPUs, and one is visible."}
    other = (case["device"] + 1) % count
    turns = Turns(backend, case, function, call, device)
    turns.turn(1)
    turns.hand_over()
    changed = 0
    for _ in range(max(1, case["tries"])):
        torch.cuda.set_device(case["device"])
        backend.poison(device, turns.calling.tensors[0])
        torch.cuda.synchronize(device)
        torch.cuda.set_device(other)
        torch.ones(1 << 20, device="cuda").sum().item()
        found = turns.calling()
        torch.cuda.synchronize(device)
        torch.cuda.synchronize(other)
        changed += torch.cuda.current_device() != other
        torch.cuda.set_device(case["device"])
        turns.judge(found)
    return turns.result(measured={"changed_current_device": float(changed)})


def texts(caught: List[Any]) -> List[str]:
    """Return warnings as text, each once."""
    return sorted({"%s: %s" % (each.category.__name__, str(each.message)[:200]) for each in caught})[:10]


MODES: Dict[str, Callable[..., Dict[str, Any]]] = {
    "stream": stream,
    "graph": graph,
    "compile": compiled,
    "reduce-overhead": compiled,
    "other-device": other_device,
}
