"""Attention on flat arrays of Python's ``array``: inputs, the reference in exact sums, and the comparison.

For packages that need no torch. ``math.fsum`` loses nothing (https://docs.python.org/3/library/math.html#math.fsum),
so that the reference is right to the last digit but one. Runs inside the target, imports nothing of sagefix.
"""

import math
import operator
import random
import sys
from array import array
from typing import Any, Callable, Dict, List

CODES = {"float64": "d", "float32": "f"}


class Backend:
    """One case at a time; see ``numerics.py`` for what a case is."""

    def __init__(self, request: Dict[str, Any]) -> None:
        self.rows = int(request["rows"])
        self.sampled: Callable[..., List[int]] = sys.modules["__main__"].neighbour("numerics_rows").sampled

    def hello(self) -> Dict[str, Any]:
        """Return versions and devices."""
        return {"versions": {"python": sys.version.split()[0]}, "devices": []}

    def after(self, case: Dict[str, Any], error: BaseException) -> int:
        """Nothing outlives an error here."""
        del case, error
        return 0

    def run(self, case: Dict[str, Any], function: Dict[str, Any], call: Callable[..., Any]) -> Dict[str, Any]:
        """Compute and compare."""
        code, dim = CODES[case["dtype"]], case["head_dim"]
        q, k, v = self.inputs(case, code)
        names, options = function["arguments"], {"dim": dim}
        if "causal" in names:
            options[names["causal"]] = case["causal"]
        if case["mode"] == "refuse-mixed":
            k = array("f" if code == "d" else "d", k)
        if case["mode"] == "refuse-dtype":
            q, k, v = (array("i", [int(number) for number in each]) for each in (q, k, v))
        found = call(q, k, v, **options)
        if not isinstance(found, array) or found.typecode != q.typecode or len(found) != len(q):
            raise TypeError(
                "returned %s of %s for %d numbers of %r"
                % (type(found).__name__, getattr(found, "typecode", "?"), len(q), q.typecode)
            )
        numbers, measured = self.compare(case, q, k, v, found)
        return {"status": "done", "numbers": numbers, "measured": measured}

    def inputs(self, case: Dict[str, Any], code: str) -> "List[array[Any]]":
        """Return queries, keys and values of the case: the same wherever it is computed."""
        chance = random.Random(case["seed"])
        large = 30.0 if case["input"] == "large" else 1.0
        sizes = ((case["queries"], large), (case["keys"], large), (case["keys"], 1.0))
        made = [
            array(code, [chance.gauss(0.0, spread) for _ in range(rows * case["head_dim"])])
            for rows, spread in sizes
        ]
        if case["input"] == "outliers":
            for each in made[1:]:
                for place in range(0, len(each), case["head_dim"]):
                    each[place] += 8.0
        return made

    def compare(self, case: Dict[str, Any], q: Any, k: Any, v: Any, found: Any) -> Any:
        """Return the errors of the sampled rows, and what is wrong anywhere in the output."""
        dim, keys = case["head_dim"], case["keys"]
        square = expected_square = found_square = product = worst = 0.0
        columns = [v[c::dim] for c in range(dim)]
        for i in self.sampled(case["queries"], self.rows, case["seed"]):
            visible = i + 1 if case["causal"] else keys
            query = q[i * dim : (i + 1) * dim]
            scores = [
                math.fsum(map(operator.mul, query, k[j * dim : (j + 1) * dim])) * dim**-0.5
                for j in range(visible)
            ]
            highest = max(scores)
            weights = [math.exp(score - highest) for score in scores]
            total = math.fsum(weights)
            row = [math.fsum(map(operator.mul, weights, column)) / total for column in columns]
            got = found[i * dim : (i + 1) * dim]
            off = math.fsum((a - b) ** 2 for a, b in zip(got, row))
            size = math.fsum(b * b for b in row)
            square, expected_square = square + off, expected_square + size
            found_square += math.fsum(a * a for a in got)
            product += math.fsum(map(operator.mul, got, row))
            # A NaN stays: max() would lose it.
            worst = max(worst, math.sqrt(off / size)) if not math.isnan(off + worst) else math.nan
        nan, inf = sum(map(math.isnan, found)), sum(map(math.isinf, found))
        norm = math.sqrt(expected_square * found_square)
        numbers = {
            "relative_l2": finite(math.sqrt(square / expected_square)),
            "cosine": finite(product / norm if norm else 0.0),
            "worst_row": finite(worst),
            "nan": nan,
            "inf": inf,
        }
        return numbers, {"zeros": sum(x == 0 for x in found) / len(found)}


def finite(number: float) -> Any:
    """Return a number that JSON can hold, or None."""
    return number if math.isfinite(number) else None
