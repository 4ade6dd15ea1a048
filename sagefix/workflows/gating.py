"""What a wheel has to pass before it counts as built: the level static, in a throwaway environment of its own target.

Where that target is not on this machine the wheel is unpacked, and read against the packages of its platform.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from sagefix.files import make_cache_dir, remove_tree
from sagefix.process import run
from sagefix.proof.model import Verdict
from sagefix.settings import cache_dir
from sagefix.wheels.model import Facts
from sagefix.wheels.unpacking import unpack
from sagefix.workflows.situation import Request


@contextlib.contextmanager
def gate_environment(python: Path, wheel: Path) -> Iterator[Path]:
    """Give the Python of a throwaway environment with a wheel installed, and everything of ``python`` behind it.

    So a wheel is checked with the torch it was built for, and that environment stays as it is.

    Raises :class:`ProcessError` when no environment can be made.
    """
    from sagefix.targets.interpreter import probe

    folder = Path(tempfile.mkdtemp(dir=make_cache_dir(cache_dir() / "gates")))
    try:
        run([python, "-m", "venv", "--without-pip", folder])
        inside = folder / "bin" / "python"
        behind = [path for path in probe(python).sys_path if path.endswith("-packages")]
        site = Path(probe(inside).purelib)
        (site / "behind.pth").write_text("".join(f"{path}\n" for path in behind), encoding="utf-8")
        unpack(wheel, site)
        yield inside
    finally:
        remove_tree(folder)


def verify_described(request: Request, wheel: Facts) -> Verdict:
    """Verify a wheel of a cross build at the level ``static`` for its target, which ``request`` describes; the verdict
    is kept beside the wheel.

    Raises what :func:`~sagefix.workflows.situation.survey` and :func:`~sagefix.workflows.build.plan_build` raise; after
    the build all they need is in the cache.
    """
    from sagefix.proof.verify import verify
    from sagefix.workflows.build import plan_build
    from sagefix.workflows.checked import libraries_of
    from sagefix.workflows.proofs import keep_proof
    from sagefix.workflows.situation import open_wheelhouse, survey

    situation = survey(request)
    plan, toolkit = plan_build(situation)
    there = situation.target.interpreter
    folder = Path(tempfile.mkdtemp(dir=make_cache_dir(cache_dir() / "gates")))
    try:
        site = folder / "site"
        unpack(Path(wheel.where), site)
        # It stands before the packages of the platform, as an installation of it would.
        interpreter = msgspec.structs.replace(there, sys_path=(str(site), *there.sys_path))
        verdict = verify(
            situation.pin,
            msgspec.structs.replace(situation.target, interpreter=interpreter),
            level="static",
            revision=situation.revision,
            wheel_sha256=wheel.sha256,
            libraries=libraries_of(plan, there, toolkit),
        )
    finally:
        remove_tree(folder)
    keep_proof(open_wheelhouse(request.wheelhouse, create=False), wheel, verdict, situation.pin)
    return verdict
