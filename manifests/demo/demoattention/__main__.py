"""``python -m demoattention``: the compiled attention against the reference, in numbers."""

import random
import sys
from array import array

from demoattention import attention
from demoattention.reference import attention as expected
from demoattention.reference import relative_error

# Element type -> the largest relative L2 error that rounding explains.
LIMITS = {"d": 1e-14, "f": 1e-6}
SHAPES = ((1, 1, 1), (33, 33, 16), (64, 64, 64), (5, 40, 16))


def main() -> int:
    """Print the worst error of each element type; return 1 when one is too large."""
    random.seed(20260101)
    failed = False
    for kind, limit in LIMITS.items():
        worst = 0.0
        for queries, keys, dim in SHAPES:
            q, k, v = (
                array(kind, [random.gauss(0, 3) for _ in range(rows * dim)]) for rows in (queries, keys, keys)
            )
            for causal in (False, True) if queries == keys else (False,):
                found = attention(q, k, v, dim=dim, causal=causal)
                worst = max(worst, relative_error(found, expected(q, k, v, dim=dim, causal=causal)))
        failed = failed or not worst < limit
        print(f"float{array(kind).itemsize * 8}: relative error {worst:.1e}, limit {limit:.0e}")
    print("wrong" if failed else "right")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
