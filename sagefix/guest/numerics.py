"""Compute attention in this interpreter and tell, case by case, how far it is from a reference in fp64.

Called as ``python numerics.py REQUEST``, a file with a JSON object:

``backend``    ``torch`` or ``arrays``: the module beside this one that makes inputs and compares
``device``     ``cuda`` or ``cpu``
``rows``       how many rows of queries are compared when there are more than twice as many
``timeout``    seconds for one case; a case that takes longer ends the process
``functions``  by name, what :class:`sagefix.proof.numerics.model.Function` says of each
``cases``      what :class:`sagefix.proof.numerics.model.Case` says of each, in the order of computing

The answer is one JSON object per line, behind ``MARK``, as soon as it is known: ``ready`` (versions, devices),
``begin`` and ``done`` for each case, ``end``. Whatever the package prints goes to standard error. A process that
dies says by its last ``begin`` in which case; the status is ``BROKEN`` when a GPU's context is broken, so that
nothing more can be computed in this process, and ``AFRESH`` when the next case should begin in a new one.
"""

import faulthandler
import gc
import importlib
import importlib.util
import json
import os
import sys
import time
from typing import Any, Dict, Tuple

MARK = "<<<sagefix case>>>"
BROKEN, AFRESH = 3, 4
_TEXT = 600


def leave_script_folder() -> str:
    """Take this script's folder off ``sys.path``: modules of the target may have the same names. Return it."""
    here = os.path.dirname(os.path.realpath(__file__))
    if sys.path and os.path.realpath(sys.path[0] or os.curdir) == here:
        del sys.path[0]
    return here


def neighbour(name: str) -> Any:
    """Load a module that stands beside this one, under a name that no module of the target has."""
    known = "sagefix_guest_" + name
    if known not in sys.modules:
        path = os.path.join(os.path.dirname(os.path.realpath(__file__)), name + ".py")
        spec = importlib.util.spec_from_file_location(known, path)
        if spec is None or spec.loader is None:
            raise ImportError("%s cannot be loaded" % path)
        sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]


def describe(error: BaseException) -> Dict[str, str]:
    """Return the class and the text of an error; assertions often have none."""
    text = " ".join(str(error).split())
    return {"type": type(error).__name__, "text": text[:_TEXT]}


def find(call: str) -> Any:
    """Return the function that ``module:attribute`` names."""
    module, _, attribute = call.partition(":")
    return getattr(importlib.import_module(module), attribute)


def attempt(
    backend: Any, case: Dict[str, Any], function: Dict[str, Any], call: Any
) -> Tuple[Dict[str, Any], int]:
    """Compute a case; return what to say of it, and the status to end with (0: go on)."""
    try:
        return backend.run(case, function, call), 0
    except BaseException as error:
        status = backend.after(case, error)
        return dict(describe(error), status="broken" if status == BROKEN else "raised"), status


def main() -> None:
    """Work through the cases of the request."""
    started = time.monotonic()
    leave_script_folder()
    answer = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)

    def tell(event: str, **more: Any) -> None:
        # In one piece and on a line of its own, whatever others have begun to write.
        answer.write("\n%s%s\n" % (MARK, json.dumps(dict(more, event=event))))
        answer.flush()

    with open(sys.argv[1], encoding="utf-8") as file:
        request = json.load(file)
    # Importing torch and a package makes millions of objects that stay; looking for garbage among them takes a sixth of
    # the time.
    gc.disable()
    try:
        backend = neighbour("numerics_" + request["backend"]).Backend(request)
    except BaseException as error:
        tell("ready", error=describe(error))
        answer.flush()
        os._exit(0)
    tell("ready", seconds=time.monotonic() - started, **backend.hello())
    status = 0
    for case in request["cases"]:
        tell("begin", id=case["id"])
        # A kernel that never ends keeps Python from doing anything; this ends the process from outside of it.
        faulthandler.dump_traceback_later(request["timeout"], exit=True)
        begun = time.monotonic()
        function = request["functions"][case["function"]]
        try:
            call = find(function["call"])
        except BaseException as error:
            said = dict(describe(error), status="missing")
        else:
            gc.enable()
            said, status = attempt(backend, case, function, call)
        faulthandler.cancel_dump_traceback_later()
        tell("done", id=case["id"], seconds=time.monotonic() - begun, **said)
        if status:
            break
    else:
        tell("end", seconds=time.monotonic() - started)
    answer.flush()
    # Nothing is left to do, and some libraries crash while they are taken down.
    os._exit(status)


if __name__ == "__main__":
    main()
