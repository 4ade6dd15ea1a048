"""One build: upstream's own backend in the target's interpreter, in a folder that only its key decides."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from sagefix.building.cross import cross_variables, provide_headers, without_ignored
from sagefix.building.diagnose import explain_failure
from sagefix.building.facts import Facts, facts_of_plan, header
from sagefix.building.objects import ObjectCache, Objects, read_objects
from sagefix.building.plan import SHIM, Plan
from sagefix.building.reproducible import reproducible_flags
from sagefix.errors import BuildError, DiskError, LockError, ProcessError
from sagefix.files import disk_errors, make_cache_dir, remove_tree
from sagefix.process import end_session, run
from sagefix.progress import Task, note, task
from sagefix.settings import cache_dir
from sagefix.targets.guests import guest_environment
from sagefix.targets.host import GIB, Jobs, memory

# ninja's status line with -v: "[3/6] /usr/local/cuda/bin/nvcc ...".
_NINJA_STATUS = re.compile(r"^\[(\d+)/(\d+)\] (.*)$")
_SOURCE_NAME = re.compile(r"([^/\s]+\.(?:cu|cpp|cc|cxx|c))\b")

# What could leak in from the user's shell and change the outcome; the plan says what is set instead.
_SCRUBBED = (
    "TORCH_CUDA_ARCH_LIST",
    "CUDA_HOME",
    "CUDA_PATH",
    "MAX_JOBS",
    "EXT_PARALLEL",
    "DIST_EXTRA_CONFIG",
    "SETUPTOOLS_SCM_PRETEND_VERSION",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "MAKEFLAGS",
    "SAGEATTN_SKIP_CUDA_BUILD",
)


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """What a build left: the backend's wheel, the whole log, how long it ran and with how many jobs.

    ``objects``: what came from the object cache; None without one.
    """

    wheel: Path
    log: Path
    seconds: float
    jobs: Jobs
    waited: bool = False
    objects: Objects | None = None


class Workplace:
    """The folder of a plan, ours alone while the context is open.

    ``<cache>/builds/<place>/`` holds ``src`` (the exported commit), ``build`` (what compilers write), ``out``
    (the backend's wheel) and ``final/<key>`` (ours). The path depends on the plan alone, because compilers write it
    into what they make. Plans that share a place wait for each other; the later one finds the objects of the
    earlier one in the cache. ``place`` names another folder, for work that is no compilation of the plan.
    """

    def __init__(self, plan: Plan, timeout: float = -1, *, place: str = "") -> None:
        self.wheel = plan.wheel
        self.timeout = timeout
        self.root = make_cache_dir(cache_dir() / "builds") / (place or plan.place)
        self.final = self.root / "final" / plan.key
        self.waited = False

    def __enter__(self) -> Workplace:
        import filelock

        # Locked by the operating system, which lets go when the holder dies, kill -9 included.
        self._lock = filelock.FileLock(f"{self.root}.lock")
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            self.waited = True
            note(f"Another sagefix process is building what {self.wheel} is built from; waiting for it.")
            try:
                self._lock.acquire(timeout=self.timeout)
            except filelock.Timeout as error:
                raise LockError(
                    f"Another sagefix process still holds {self.root}.lock after {self.timeout:.0f} s."
                ) from error
        self._end_leftovers()
        return self

    def __exit__(self, *exc: object) -> None:
        self._lock.release()

    def clear(self) -> None:
        """Delete everything of an earlier build."""
        remove_tree(self.root)
        with disk_errors(self.root, "make the build folder"):
            for name in ("build", "egg", "out"):
                (self.root / name).mkdir(parents=True)

    def sweep(self, keep: Sequence[str] = ()) -> None:
        """Delete what only the build needed, the folders of ``keep`` excepted."""
        for path in self.root.iterdir():
            if path.name not in keep:
                with contextlib.suppress(OSError, DiskError):
                    remove_tree(path) if path.is_dir() else path.unlink()

    def remember(self, session: int) -> None:
        """Write down which session compiles here, so that a later build can end what was left of it."""
        (self.root / "session").write_text(str(session), encoding="ascii")

    def _end_leftovers(self) -> None:
        """End compilers of a build whose sagefix was killed together with its watchdog."""
        with contextlib.suppress(OSError, ValueError):
            session = int((self.root / "session").read_text(encoding="ascii"))
            if _works_in(session, self.root):
                end_session(session)


def _works_in(session: int, folder: Path) -> bool:
    """True when a process of the session has its working folder below ``folder`` (numbers are reused)."""
    import psutil

    from sagefix.process import session_members

    for pid in session_members(session):
        with contextlib.suppress(psutil.Error, ValueError):
            if Path(psutil.Process(pid).cwd()).is_relative_to(folder):
                return True
    return False


def run_backend(
    plan: Plan,
    workplace: Workplace,
    jobs: Jobs,
    log: Path,
    *,
    source_date_epoch: int,
    object_cache: ObjectCache | None = None,
    environment: Mapping[str, str] | None = None,
    wrapper: Path | None = None,
) -> Built:
    """Build the wheel of ``plan`` from ``workplace.root/src`` with the backend that the source names.

    There is no build isolation: setuptools, torch and ninja are the target's own. Upstream's files are not
    touched; the local version and the places of build files are set through ``DIST_EXTRA_CONFIG``
    (https://setuptools.pypa.io/en/latest/deprecated/distutils/configfile.html). ``wrapper`` is guest code that the
    shim runs in place of the backend's hook, which it gets as its arguments.

    Raises :class:`BuildError` with the first real error and the path of the log.
    """
    from build import BuildBackendException, BuildException, ProjectBuilder

    root = workplace.root
    with disk_errors(root, "write the build's settings"):
        config = root / "distutils.cfg"
        config.write_text(_distutils_config(plan, root), encoding="utf-8")
        if plan.cross is not None:
            provide_headers(plan.cross, root)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(header(facts_of_plan(plan)), encoding="utf-8")
    base = os.environ if environment is None else environment
    variables = build_environment(plan, jobs, config, root, source_date_epoch, base, object_cache)
    started = time.monotonic()
    with task("Building " + plan.project, unit="objects") as running:

        def runner(
            cmd: Sequence[str], cwd: str | None = None, extra_environ: Mapping[str, str] | None = None
        ) -> None:
            run(
                [cmd[0], str(SHIM), *([str(wrapper)] if wrapper else []), *cmd[1:]],
                cwd=Path(cwd) if cwd else None,
                env={**variables, **(extra_environ or {})},
                log=log,
                on_line=lambda line: _hear(line, running),
                on_start=workplace.remember,
                watched=True,
            )

        try:
            builder = ProjectBuilder(root / "src", python_executable=plan.python, runner=runner)
            wheel = Path(builder.build("wheel", root / "out"))
        except ProcessError as error:
            raise _explain(error, log, plan) from error
        except (BuildBackendException, BuildException) as error:
            cause = error.__cause__ or error.__context__
            if isinstance(cause, ProcessError):
                raise _explain(cause, log, plan) from error
            raise BuildError(f"The build backend failed: {error}", details={"log": str(log)}) from error
        except OSError as error:
            with disk_errors(root, "build the wheel"):
                raise
            raise AssertionError from error
    _end_log(log, 0)
    return Built(
        wheel=wheel,
        log=log,
        seconds=time.monotonic() - started,
        jobs=jobs,
        waited=workplace.waited,
        objects=read_objects(log.read_text(encoding="utf-8", errors="replace")) if object_cache else None,
    )


def build_environment(
    plan: Plan,
    jobs: Jobs,
    config: Path,
    root: Path,
    source_date_epoch: int,
    base: Mapping[str, str],
    object_cache: ObjectCache | None = None,
) -> dict[str, str]:
    """Return the whole environment of a build: the user's, less what could leak in, plus what the plan says."""
    if plan.cross is not None:
        base = without_ignored(base)
    variables = {name: value for name, value in guest_environment(base).items() if name not in _SCRUBBED}
    # The target's own programs first: its ninja, not that of whoever started sagefix.
    variables["PATH"] = os.pathsep.join([str(Path(plan.python).parent), base.get("PATH", os.defpath)])
    identity = plan.identity
    extensions = max(1, len(identity.extensions))
    # Extensions gathered into one ninja share one job limit, so all of them may start.
    together = extensions if plan.parallel_env and extensions > 1 else 1
    variables.update(
        {
            "DIST_EXTRA_CONFIG": str(config),
            "MAX_JOBS": str(jobs.count),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            "PYTHONUNBUFFERED": "1",
            "SOURCE_DATE_EPOCH": str(source_date_epoch),
            "TMPDIR": str(root / "build"),
            "SAGEFIX_BUILD_DIR": str(root / "build"),
            "SAGEFIX_SHIM": msgspec.json.encode(
                {
                    "archs": identity.archs,
                    "fake_gpus": plan.fake_gpus,
                    "torch": bool(identity.torch),
                    "extensions": together,
                    "code": {
                        extension: [_code(text, identity.gencodes) for text in archs]
                        for extension, archs in identity.archs_of.items()
                    },
                    "threads": jobs.threads,
                    "fixes": plan.fix_sources,
                    "objects": object_cache,
                    "cross": plan.cross,
                }
            ).decode(),
        }
    )
    if plan.parallel_env:
        variables[plan.parallel_env] = str(together)
    if identity.platform_tag.startswith("linux"):
        nvcc = str(Path(plan.toolkit) / "bin" / "nvcc") if plan.toolkit else ""
        variables.update(
            reproducible_flags(plan.places, root, compiler=identity.host_compiler, nvcc=nvcc, env=base)
        )
    if plan.toolkit:
        variables["CUDA_HOME"] = plan.toolkit
    if plan.cross is not None:
        variables |= cross_variables(plan.cross, variables, root)
    elif plan.stubs:
        # For the linker alone: on LD_LIBRARY_PATH or in an rpath the stub would stand in for the driver.
        # First, as the linker was asked when the toolkit was chosen: an empty stub of somebody's must not win.
        variables["LIBRARY_PATH"] = os.pathsep.join(filter(None, [*plan.stubs, base.get("LIBRARY_PATH", "")]))
    if identity.archs:
        # Upstream's own reader splits at ";" and "," only, torch at ";" and spaces: ";" is what both take.
        variables["TORCH_CUDA_ARCH_LIST"] = ";".join(identity.archs)
    return variables


def _code(arch: str, gencodes: Mapping[str, str]) -> tuple[str, str, bool]:
    """Return an arch as the shim takes it: capability, the number behind ``sm_``, with PTX or not."""
    capability, plus, _ = arch.partition("+")
    return capability, gencodes[capability], bool(plus)


def _distutils_config(plan: Plan, root: Path) -> str:
    # The file is read with interpolation: https://docs.python.org/3/library/configparser.html
    egg, build = (str(root / name).replace("%", "%%") for name in ("egg", "build"))
    return f"[egg_info]\ntag_build = +{plan.label}\negg_base = {egg}\n[build]\nbuild_base = {build}\n"


def _hear(line: str, running: Task) -> None:
    """Turn ninja's status into progress."""
    match = _NINJA_STATUS.match(line)
    if match is None:
        return
    source = _SOURCE_NAME.search(match[3])
    running.update(done=int(match[1]), total=int(match[2]), text=source[1] if source else None)


def _explain(error: ProcessError, log: Path, plan: Plan) -> BuildError:
    status = error.details.get("returncode")
    _end_log(log, status)
    known = msgspec.structs.replace(
        facts_of_plan(plan), exit_status=status, memory_gib=round(memory().total / GIB, 1)
    )
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = str(error.details.get("tail", ""))
    return explain_failure(text, known, log, otherwise=str(error.details.get("tail", "")) or error.message)


def _end_log(log: Path, status: int | None) -> None:
    """Write down how the build ended, for whoever reads the log later (``sagefix explain``)."""
    with contextlib.suppress(OSError), log.open("a", encoding="utf-8") as stream:
        stream.write("\n" + header(Facts(exit_status=status)))


def require_disk(folder: Path, needed: int) -> None:
    """Raise :class:`DiskError` when less than ``needed`` bytes are free below ``folder``."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskError(
            f"A build needs {needed / 1e9:.1f} GB below {folder}; {free / 1e9:.1f} GB are free.",
            hint="Free some space, or point SAGEFIX_CACHE_DIR at another disk.",
        )
