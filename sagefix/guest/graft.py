"""Runs a build backend's hook with the compiling left out: ``python shim.py graft.py HOOK_SCRIPT ARGS...``.

The compiled modules are copied from a wheel that was built from equal native sources; all else of the wheel is made
by the commit's own build files. ``SAGEFIX_GRAFT`` maps import names to files.
"""

import json
import os
import runpy
import shutil
import sys
from typing import Any, Dict


def put_in(modules: Dict[str, str]) -> None:
    """Let ``build_ext`` of setuptools, and what is derived from it, copy these modules in place of compiling."""
    from setuptools.command import build_ext

    def run(self: Any) -> None:
        wanted = {
            self.get_ext_fullname(each.name): self.get_ext_fullpath(each.name) for each in self.extensions
        }
        if set(wanted) != set(modules):
            raise SystemExit("graft: the build wants %s, there are %s" % (sorted(wanted), sorted(modules)))
        for name, path in wanted.items():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if os.path.basename(path) != os.path.basename(modules[name]):
                raise SystemExit("graft: %s would be called %s" % (modules[name], os.path.basename(path)))
            shutil.copyfile(modules[name], path)

    build_ext.build_ext.run = run


def main() -> None:
    """Prepare, then go on with the hook."""
    put_in(json.loads(os.environ.pop("SAGEFIX_GRAFT")))
    sys.argv = sys.argv[1:]
    # As if Python had been started with the hook script itself.
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
