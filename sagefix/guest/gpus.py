"""Asks the target's torch for its GPUs. Runs inside the target interpreter, imports nothing of sagefix.

Usage: ``python gpus.py``. The answer is one JSON object between two marker lines: ``gpus`` (what torch
sees, in its order, so ``CUDA_VISIBLE_DEVICES`` counts) and ``error`` (torch's own words when it sees none).
"""

import os
import sys

BEGIN, END = "<<<sagefix", "sagefix>>>"


def leave_script_folder() -> None:
    """Take this script's folder off ``sys.path``: its neighbours are no modules for torch to find."""
    here = os.path.dirname(os.path.realpath(__file__))
    if sys.path and os.path.realpath(sys.path[0] or os.curdir) == here:
        del sys.path[0]


def words(error: BaseException) -> str:
    """Return an error as one line, with its kind where the text alone says little."""
    text = " ".join(str(error).split())
    return "%s: %s" % (type(error).__name__, text) if text else type(error).__name__


def look() -> "dict[str, object]":
    """Return the GPUs, or the reason why there are none."""
    try:
        import torch
    except BaseException as error:  # a broken torch may raise anything, SystemExit too
        return {"gpus": [], "error": "torch cannot be imported: " + words(error)}
    try:
        # device_count() alone answers 0 for a missing driver, an old one and a hidden GPU alike.
        torch.cuda.init()
        found = []
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            found.append(
                {
                    "index": index,
                    "name": properties.name,
                    "capability": "%d.%d" % (properties.major, properties.minor),
                    "memory": properties.total_memory,
                }
            )
    except Exception as error:
        return {"gpus": [], "error": words(error)}
    return {"gpus": found, "error": "" if found else "torch sees no GPU"}


def main() -> None:
    """Answer on standard output."""
    leave_script_folder()
    import json

    answer = "\n%s\n%s\n%s\n" % (BEGIN, json.dumps(look()), END)
    sys.stdout.flush()
    with open(1, "wb", closefd=False) as out:
        out.write(answer.encode("ascii"))


if __name__ == "__main__":
    main()
