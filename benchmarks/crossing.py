"""A build for another platform against the native build of the same cell, by turns.

Same commit, archs, Python and torch, each from nothing and without an object cache; what is fetched is fetched before.
"""

from __future__ import annotations

from benchmarks.measure import NotHereError, Part, Way, alternate, call, compare
from benchmarks.surroundings import Asked, environment, given, sagefix

TARGET = 1.1


def compare_cross(asked: Asked) -> Part:
    """Time both builds by turns."""
    from sagefix.targets.cross.platforms import load_platforms

    if asked.torch is None or asked.arch is None:
        raise NotHereError("Name --torch VERSION and --arch ARCH, and for most pins --source REPO.")
    platform = asked.platform or next(each.name for each in load_platforms().platform if not each.here)
    cell = ["--pin", asked.pin, "--python", asked.python_version, "--torch", asked.torch]
    env = environment(asked.scratch, **({"SAGEFIX_CACHE_DIR": str(asked.cache)} if asked.cache else {}))
    words = [*cell, "--rebuild", "--object-cache", "off", *given(ref=asked.ref, source=asked.source)]
    words += ["--arch", asked.arch, "--cuda", asked.cuda]
    native = Way(name="sagefix build", command=(*sagefix(), "build", *words), env=env)
    crossed = Way(
        name=f"sagefix build --platform {platform}",
        command=(*native.command, "--platform", platform),
        env=env,
    )
    for way in ((), ("--platform", platform)):
        call(*sagefix(), "toolchain", "install", *cell, *way, env=env)
    runs = alternate([native, crossed], runs=asked.build_runs, warmup=0)
    row = compare("cross", crossed.name, native.name, runs, target=TARGET)
    return Part(name="cross", rows=(row,), notes=("both builds hold their own checks of the wheel",))
