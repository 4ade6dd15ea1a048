"""Asks the driver, or the target's torch, for the GPUs. Runs inside the target, imports nothing of sagefix.

Usage: ``python gpus.py CUDA``, the version that torch was built with (``13.0``). The answer is one JSON object between
two marker lines: ``gpus`` (what torch sees, in its order, so ``CUDA_VISIBLE_DEVICES`` counts), ``by`` (``driver`` or
``torch``) and ``error`` (torch's own words when it sees none).

The driver gives the same answer as torch, which asks it, and gives it seconds earlier: importing torch takes two to
four. Torch is asked where the driver is older than its CUDA, or finds nothing, because it says why.
"""

import ctypes
import os
import sys
from typing import List

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


def ask_driver(cuda: str) -> "List[dict[str, object]]":
    """Return the GPUs that the driver shows to this process; none where torch's CUDA is newer than the driver's.

    https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__DEVICE.html; within a major version every driver serves
    every CUDA: https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
    """
    library = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    number, memory, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(256)

    def attribute(which: int, device: ctypes.c_int) -> int:
        require(library.cuDeviceGetAttribute(ctypes.byref(number), which, device))
        return number.value

    def require(status: int) -> None:
        if status:
            raise OSError("the driver says %d" % status)

    require(library.cuInit(0))
    require(library.cuDriverGetVersion(ctypes.byref(number)))
    if number.value // 1000 < int(cuda.partition(".")[0]):
        return []
    require(library.cuDeviceGetCount(ctypes.byref(number)))
    found: "List[dict[str, object]]" = []
    for index in range(number.value):
        device = ctypes.c_int()
        require(library.cuDeviceGet(ctypes.byref(device), index))
        require(library.cuDeviceGetName(name, len(name), device))
        require(library.cuDeviceTotalMem_v2(ctypes.byref(memory), device))
        # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
        capability = "%d.%d" % (attribute(75, device), attribute(76, device))
        text = name.value.decode("utf-8", "replace")
        found.append({"index": index, "name": text, "capability": capability, "memory": memory.value})
    return found


def look(cuda: str) -> "dict[str, object]":
    """Return the GPUs, or the reason why there are none."""
    try:
        if found := ask_driver(cuda):
            return {"gpus": found, "by": "driver", "error": ""}
    except (OSError, AttributeError, ValueError):  # no driver, or one without these functions
        pass
    return dict(ask_torch(), by="torch")


def ask_torch() -> "dict[str, object]":
    """Return the GPUs that torch sees, or its words why there are none."""
    try:
        import torch
    except BaseException as error:  # a broken torch may raise anything, SystemExit too
        return {"gpus": [], "error": "torch cannot be imported: " + words(error)}
    try:
        # device_count() alone answers 0 for a missing driver, an old one and a hidden GPU alike.
        torch.cuda.init()
        found: "List[dict[str, object]]" = []
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

    answer = "\n%s\n%s\n%s\n" % (BEGIN, json.dumps(look(sys.argv[1])), END)
    sys.stdout.flush()
    with open(1, "wb", closefd=False) as out:
        out.write(answer.encode("ascii"))


if __name__ == "__main__":
    main()
