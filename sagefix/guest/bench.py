"""Measure ways to compute attention in this interpreter and tell, case by case, what came of it.

Called as ``python bench.py REQUEST``, a file with a JSON object:

``device``    ``cuda`` or ``cpu``; ``index``: which GPU
``backends``  by name, what :class:`sagefix.proof.benchmark.table.Backend` says of each
``cases``     ``id``, ``size`` (batch, heads, tokens, head_dim), ``dtype``, ``causal``, ``seed``, ``backends`` (names)
``method``    ``flush``, ``queued``, ``budget_s``, ``least``, ``most``, ``warmups``, ``longest_s``, ``rows``
``limit_s``   seconds for one call; one that takes longer ends the process (importing torch may take longer)

The answer is one JSON object per line, behind the mark of ``numerics.py``, as soon as it is known: ``ready`` (versions,
the device), ``at`` (what is being done: whoever reads knows the culprit when no more comes), ``failed`` for a backend
that cannot compute a case, ``done`` with everything of a case, ``crashed`` before the process ends because a GPU's
context is broken, ``end``. Whatever others print goes to standard error.
"""

import faulthandler
import gc
import importlib.util
import json
import os
import sys
from typing import Any, Callable, Dict, List, Optional


def _shared() -> Any:
    """Load what the scripts for numbers in this folder have in common."""
    path = os.path.join(os.path.dirname(os.path.realpath(__file__)), "numerics.py")
    spec = importlib.util.spec_from_file_location("sagefix_guest_numerics", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


IMPORT_S = 300.0
"""Importing torch from a slow disk takes a minute; more than this is a hang."""
shared = _shared()
neighbour: Callable[[str], Any] = shared.neighbour


class Answer:
    """Standard output, kept for events, and a limit for what is being done."""

    def __init__(self, limit: float) -> None:
        self.file = os.fdopen(os.dup(1), "w", encoding="ascii")
        os.dup2(2, 1)
        self.limit = limit

    def tell(self, event: str, **more: Any) -> None:
        """Write one event, in one piece and on a line of its own, whatever others have begun to write."""
        self.file.write("\n%s%s\n" % (shared.MARK, json.dumps(dict(more, event=event))))
        self.file.flush()

    def at(self, doing: str, case: str = "", backend: str = "") -> None:
        """Tell what is being done from now on; if it never ends, this process does."""
        self.tell("at", doing=doing, case=case, backend=backend)
        limit = max(IMPORT_S, self.limit) if doing == "import" else self.limit
        faulthandler.dump_traceback_later(limit, exit=True)


def main() -> None:
    """Work through the cases of the request."""
    shared.leave_script_folder()
    with open(sys.argv[1], encoding="utf-8") as file:
        request = json.load(file)
    answer = Answer(request["limit_s"])
    answer.at("import")
    try:
        bench = Bench(request, answer)
        said = bench.hello()
    except BaseException as error:
        answer.tell("ready", error=shared.describe(error))
        os._exit(0)
    answer.tell("ready", **said)
    for case in request["cases"]:
        bench.run(case)
    answer.tell("end")
    # Nothing is left to do, and some libraries crash while they are taken down.
    os._exit(0)


class Bench:
    """The backends, loaded when they are needed first, and the way through one case."""

    def __init__(self, request: Dict[str, Any], answer: Answer) -> None:
        import torch

        torch.set_grad_enabled(False)
        self.torch, self.answer, self.method = torch, answer, request["method"]
        self.described: Dict[str, Any] = request["backends"]
        self.loaded: Dict[str, Any] = {}
        self.device = torch.device(request["device"], request["index"])
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        self.backends, self.turns = neighbour("bench_backends"), neighbour("bench_turns")
        self.torch_numbers = neighbour("numerics_torch")
        self.numbers = self.torch_numbers.Backend({"device": self.device.type, "rows": self.method["rows"]})
        self.clock = neighbour("bench_clock").Clock(self.device, self.method["flush"], self.method["queued"])

    def hello(self) -> Dict[str, Any]:
        """Return versions, the device, and how time is taken."""
        said = {"torch": self.torch.__version__, "clock": self.clock.name, "l2_flush": self.clock.flushed}
        if not self.clock.cuda:
            return dict(said, name="", capability="cpu", memory=0, index=0, uuid="")
        facts = self.torch.cuda.get_device_properties(self.device)
        return dict(
            said,
            name=facts.name,
            capability="%d.%d" % (facts.major, facts.minor),
            memory=facts.total_memory,
            index=self.device.index,
            # Versions of torch that do not tell it are asked for nothing.
            uuid=str(getattr(facts, "uuid", "")),
        )

    def run(self, case: Dict[str, Any]) -> None:
        """Check every backend of a case once, then time those that came through by turns."""
        self.answer.at("inputs", case["id"])
        results: Dict[str, Any] = {}
        try:
            wanted = self.wanted(case)
            inputs = self.torch_numbers.Inputs(wanted, self.device)
            references = self.numbers.references(wanted, inputs)
        except Exception as error:
            self.fail(case["id"], case["backends"], error)
            self.clock.forget()
            self.answer.tell("done", case=case["id"], results=results)
            return
        tensors = inputs.parts[0]
        for name in case["backends"]:
            self.answer.at("check", case["id"], name)
            try:
                results[name] = self.check(name, tensors, case["causal"], references)
            except Exception as error:
                self.fail(case["id"], [name], error)
            self.clock.forget()
        self.time(case, tensors, results)
        del inputs, tensors, references
        self.clock.forget()
        self.answer.tell("done", case=case["id"], results=results)

    def wanted(self, case: Dict[str, Any]) -> Dict[str, Any]:
        """Return the case in the words of ``numerics_torch``: self-attention on normally distributed inputs."""
        batch, heads, tokens, head_dim = case["size"]
        return {
            "batch": batch,
            "heads": heads,
            "key_heads": heads,
            "queries": tokens,
            "keys": tokens,
            "head_dim": head_dim,
            "dtype": case["dtype"],
            "causal": case["causal"],
            "input": "normal",
            "sequences": [],
            "seed": case["seed"],
        }

    def check(self, name: str, tensors: Any, causal: bool, references: Any) -> Dict[str, Any]:
        """Call a backend twice: what is compiled at the first call is compiled now; the second one is judged."""
        if name not in self.loaded:
            self.loaded[name] = self.backends.load(self.described[name])
        ready = self.loaded[name]
        inputs = ready.inputs(tensors)
        with ready.around():
            self.backends.attempt(lambda: ready.call(*inputs, causal))
            self.clock.wait()
            self.numbers.poison(self.device, tensors[0])
            memory, found = self.clock.memory(lambda: ready.call(*inputs, causal))
        found = ready.output(found)
        if found.shape != tensors[0].shape:
            raise TypeError("returned a shape of %s for %s" % (tuple(found.shape), tuple(tensors[0].shape)))
        return {"memory": memory, "numbers": self.numbers.compare([found], references).numbers()}

    def time(self, case: Dict[str, Any], tensors: Any, results: Dict[str, Any]) -> None:
        """Add the times of all runs, in milliseconds, to the results; who fails meanwhile is taken out."""
        calls: Dict[str, Callable[[], float]] = {}
        for name in results:
            calls[name] = self.calling(self.loaded[name], tensors, case["causal"])
        last: Dict[str, float] = {}
        gc.disable()
        try:
            for _ in range(self.method["warmups"]):
                for name in list(calls):
                    last[name] = self.one(case["id"], name, calls) or 0.0
            limits = (self.method[each] for each in ("budget_s", "least", "most", "longest_s"))
            counts = self.turns.plan({name: last[name] for name in calls}, *limits)
            for name in self.turns.by_turns(counts):
                taken = self.one(case["id"], name, calls) if name in calls else None
                if taken is not None:
                    results[name].setdefault("times", []).append(taken)
        finally:
            gc.enable()
        for name in set(results) - set(calls):
            del results[name]

    def calling(self, ready: Any, tensors: Any, causal: bool) -> Callable[[], float]:
        """Return a function that measures one call."""
        inputs = ready.inputs(tensors)
        return lambda: float(self.clock.measure(lambda: ready.call(*inputs, causal), ready.around))

    def one(self, case: str, name: str, calls: Dict[str, Callable[[], float]]) -> Optional[float]:
        """Measure one call and return its time, or None when it failed."""
        self.answer.at("time", case, name)
        try:
            return calls[name]()
        except Exception as error:
            del calls[name]
            self.fail(case, [name], error)
            return None

    def fail(self, case: str, names: List[str], error: Exception) -> None:
        """Tell what an error means; one that breaks the GPU's context ends this process."""
        status, text = self.backends.classify(error)
        if self.numbers.after({"mode": ""}, error):
            self.answer.tell("crashed", case=case, backend=names[0] if len(names) == 1 else "", text=text)
            os._exit(shared.BROKEN)
        for name in names:
            self.answer.tell("failed", case=case, backend=name, status=status, text=text)


if __name__ == "__main__":
    main()
