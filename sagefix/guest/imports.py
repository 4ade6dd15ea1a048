"""Import one thing in this interpreter and tell, in JSON, what came of it.

Called as ``python imports.py REQUEST`` with a JSON object:

``first``       modules to import before (``["torch"]``: extensions need libtorch to be loaded)
``extension``   ``{"module": ..., "path": ...}``: load this file alone, without its package's ``__init__``,
                which may hide the error of its extensions
``package``     import this package instead
``modules``     then, each of these by name; what is not in ``sys.modules`` yet was not loaded by the package
``requires``    modules of others that have to be there (``["triton"]``)

The answer is one JSON object between two marker lines on standard output; whatever the imported code prints
goes to standard error. A process that dies (a segmentation fault in an extension) answers nothing: who called
looks at its exit status. Like the probe it runs without ``-I``: user site and ``PYTHONPATH`` count, as they
do when the user's program imports the package.
"""

import os
import sys

BEGIN, END = "<<<sagefix", "sagefix>>>"
WARNINGS_KEPT = 20


def leave_script_folder() -> None:
    """Take this script's folder off ``sys.path``: modules of the target may have the same names."""
    here = os.path.dirname(os.path.realpath(__file__))
    if sys.path and os.path.realpath(sys.path[0] or os.curdir) == here:
        del sys.path[0]


leave_script_folder()

import gc  # noqa: E402
import importlib  # noqa: E402
import importlib.machinery  # noqa: E402
import importlib.util  # noqa: E402
import json  # noqa: E402
import warnings  # noqa: E402
from typing import Any, Callable, Dict, Optional  # noqa: E402

Failure = Optional[Dict[str, str]]


def main() -> None:
    # The answer keeps standard output for itself.
    answer = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    # What is imported stays; looking for garbage in it takes a sixth of the time.
    gc.disable()
    answer.write("\n%s\n%s\n%s\n" % (BEGIN, json.dumps(work(json.loads(sys.argv[1]))), END))
    answer.flush()
    # Nothing is left to do, and some libraries crash while they are taken down.
    os._exit(0)


def work(request: Dict[str, Any]) -> Dict[str, Any]:
    """Do what the request asks; the first of ``first`` that fails ends it."""
    first, requires, modules = (request.get(key, []) for key in ("first", "requires", "modules"))
    for name in first:
        failed = attempt(importlib.import_module, name)
        if failed is not None:
            return {"error": failed, "during": name}
    result: Dict[str, Any] = {"error": None, "during": ""}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        if "extension" in request:
            result["error"] = attempt(load_file, request["extension"]["module"], request["extension"]["path"])
        if "package" in request:
            result["error"] = attempt(importlib.import_module, request["package"])
            result["file"] = getattr(sys.modules.get(request["package"]), "__file__", None) or ""
        result["requires"] = {name: attempt(importlib.import_module, name) for name in requires}
        if result["error"] is None:
            result["hidden"] = [name for name in modules if name not in sys.modules]
            result["modules"] = {name: attempt(importlib.import_module, name) for name in modules}
    result["warnings"] = ["%s: %s" % (seen.category.__name__, seen.message) for seen in caught][
        :WARNINGS_KEPT
    ]
    result["versions"] = {
        name: str(sys.modules[name].__version__)
        for name in [*first, *requires]
        if hasattr(sys.modules.get(name), "__version__")
    }
    return result


def load_file(name: str, path: str) -> None:
    """Load a compiled module from its file, and nothing else of its package."""
    loader = importlib.machinery.ExtensionFileLoader(name, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None:
        raise ImportError("%s is no file that can be loaded" % path)
    loader.exec_module(importlib.util.module_from_spec(spec))


def attempt(do: Callable[..., Any], *arguments: str) -> Failure:
    """Return the error of an import, or None. ``SystemExit`` is an error, too."""
    try:
        do(*arguments)
    except BaseException as error:
        return {"type": type(error).__name__, "text": str(error).strip()}
    return None


if __name__ == "__main__":
    main()
