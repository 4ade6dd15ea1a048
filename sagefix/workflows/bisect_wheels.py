"""Levels above ``static``: a wheel for each state of the package, installed where it harms nobody, and verified.

Everything lies in one folder of the cache for each pin and target: wheels that were compiled, verdicts, and the
throw-away environment. The user's environment and wheelhouse are only read.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from sagefix import __version__
from sagefix.building.plan import Plan
from sagefix.errors import BuildError, GpuError, LockError, WheelError, WheelhouseError
from sagefix.files import make_cache_dir, remove_tree, sha256_bytes, write_bytes
from sagefix.installing.installer import call, choose_installer
from sagefix.pins.model import Pin
from sagefix.progress import note, task, warn
from sagefix.proof.model import Verdict
from sagefix.proof.reading import Judged, judge_sources
from sagefix.proof.verify import verify
from sagefix.settings import cache_dir
from sagefix.source.history import History, read_files
from sagefix.source.lines import Change
from sagefix.targets.cuda import Toolkit
from sagefix.targets.model import Interpreter
from sagefix.targets.needs import require_torch
from sagefix.targets.throwaway import make_throwaway
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.workflows.ahead import Ahead
from sagefix.workflows.bisect_plans import Builds, recipe_of_change, room_for_two
from sagefix.workflows.bisect_verdicts import (
    Kept,
    describe_target,
    name_of,
    read_kept,
    rules,
    weigh,
    with_gpus,
)
from sagefix.workflows.bisection import Asked, Made, Outcome
from sagefix.workflows.build import build
from sagefix.workflows.grafting import (
    Description,
    build_files,
    content_key,
    describe,
    graft,
    key_by_itself,
    native_key,
)
from sagefix.workflows.situation import Request, find_interpreter, find_target, open_wheelhouse

_LOCK_S = 600.0


class WheelJudge:
    """Judges commits by what their wheels do in the target."""

    equal = (
        "its wheel installs equal files: equal Python files, and modules from equal sources, equally compiled"
    )

    def __init__(
        self, request: Request, asked: Asked, pin: Pin, history: History, changes: Sequence[Change]
    ) -> None:
        self._request, self._asked, self._pin = request, asked, pin
        interpreter = find_interpreter(pin, request)
        if pin.build.torch:
            require_torch(interpreter, pin)
        recipe = recipe_of_change(pin, changes[0])
        self._target = with_gpus(find_target(pin, recipe, interpreter, request.arch), pin, asked)
        self.judged_by = describe_target(self._target)
        self._builds = Builds(request, pin, self._target)
        self._root = make_cache_dir(cache_dir() / "bisect") / f"{pin.name}-{name_of(interpreter)}"
        self._lock()
        # Left by a search that was killed.
        remove_tree(self._root / "grafts")
        self._environment: Interpreter | None = None
        self._wheelhouse = Wheelhouse.open(self._root / "wheels", create=True)
        self._donors = self._earlier_donors()
        self._grafts, self._builds_ahead = Ahead(), Ahead()
        try:
            self._files = read_files(
                history, {file.blob for change in changes for file in change.python_files(pin.package)}
            )
            self._describe(changes)
        except BaseException:
            self.close()
            raise

    def content(self, change: Change) -> str:
        """Return a name of the files that the commit's wheel would install."""
        return self._contents[change.commit]

    def judge(self, change: Change, following: Sequence[Change]) -> Outcome:
        """Take the verdict of an earlier search, else make the wheel, install it and verify it."""
        started = time.monotonic()
        if (known := self._without_wheel(change)) is not None:
            return known
        try:
            wheel, made = self._wheel(change, following)
        except (BuildError, WheelError, GpuError) as error:
            told = f"It cannot be built: {error.message} {error.details.get('log', '')}".rstrip()
            return Outcome(Judged(verdict=None, words=told), seconds=time.monotonic() - started)
        self._prepare(following)
        verdict = self._verify(change, wheel)
        judged = weigh(verdict, self._pin)
        if judged.verdict is not None:
            seconds = time.monotonic() - started
            found = Kept(commit=change.commit, judged=judged, verdict=verdict, seconds=seconds)
            write_bytes(self._verdict_file(self.content(change)), msgspec.json.encode(found))
        if wheel.is_relative_to(self._root / "grafts"):
            wheel.unlink()
        return Outcome(judged, made=made, seconds=time.monotonic() - started)

    def _without_wheel(self, change: Change) -> Outcome | None:
        """Return what can be said without a wheel: it does not parse, or it was judged before."""
        sources = {file.path: self._files[file.blob] for file in change.python_files(self._pin.package)}
        read = judge_sources(msgspec.structs.replace(self._pin, fault=()), sources, ())
        if read.verdict != "good":
            return Outcome(read)
        if (
            not self._asked.fresh
            and (found := read_kept(self._verdict_file(self.content(change)))) is not None
        ):
            return Outcome(found.judged, kept=True, seconds=found.seconds)
        return None

    def _prepare(self, following: Sequence[Change]) -> None:
        """Graft the next wheel that can be grafted meanwhile; compiling would take the processors from verifying."""
        coming = next((change for change in following if self._without_wheel(change) is None), None)
        if coming is not None and self._asked.share and self._natives[coming.commit] in self._donors:
            found = self._builds.tools(coming)
            if not isinstance(found, GpuError):
                self._grafts.start(
                    coming.commit, self._grafting(coming, self._builds.plan(coming, found[1]), found[1])
                )

    def _grafting(self, change: Change, plan: Plan, toolkit: Toolkit | None) -> Callable[[], Path]:
        return partial(
            graft,
            self._builds.situation(change),
            plan,
            toolkit,
            self._builds.fetched(change),
            self._donors[self._natives[change.commit]],
            self._root / "grafts",
        )

    def close(self) -> None:
        """Remove what was installed; wheels that were compiled and verdicts stay for the next search."""
        self._grafts.close()
        self._builds_ahead.close()
        for name in ("environment", "grafts"):
            remove_tree(self._root / name)
        self._held.release()

    def _lock(self) -> None:
        from filelock import FileLock, Timeout

        self._root.mkdir(exist_ok=True)
        self._held = FileLock(f"{self._root}.lock")
        try:
            self._held.acquire(timeout=0)
        except Timeout:
            note(f"Another search works on {self._root}; waiting for its end.")
            try:
                self._held.acquire(timeout=_LOCK_S)
            except Timeout as error:
                raise LockError(
                    f"Another search has been working on {self._root} for over {_LOCK_S:.0f} s.",
                    hint="End it, or wait; this one goes on with what it has found.",
                ) from error

    def _describe(self, changes: Sequence[Change]) -> None:
        """Find out which commits share compiled modules, and which share everything that is installed."""
        by_files: dict[str, Change] = {}
        for change in changes:
            by_files.setdefault(build_files(change, self._pin), change)
        usable = {
            name: change for name, change in by_files.items() if isinstance(self._builds.tools(change), tuple)
        }
        plan = next((found[0] for found in self._builds.by_recipe.values() if isinstance(found, tuple)), None)
        described: dict[str, Description] = {}
        if plan is not None:
            described = describe(
                {name: self._builds.fetched(change) for name, change in usable.items()},
                self._pin,
                plan,
                self._root / "describing",
            )
        self._natives: dict[str, str] = {}
        self._contents: dict[str, str] = {}
        for change in changes:
            description = described.get(build_files(change, self._pin))
            found = self._builds.tools(change)
            if description is None or description.error or isinstance(found, GpuError):
                self._natives[change.commit] = self._contents[change.commit] = key_by_itself(change)
                continue
            native = native_key(change, self._pin, description, found[0])
            self._natives[change.commit] = native
            self._contents[change.commit] = content_key(change, self._pin, description, native)
        note(
            f"{len(set(self._natives.values()))} states of the compiled modules, "
            f"{len(set(self._contents.values()))} of what is installed, in {len(changes)} commits."
        )

    def _wheel(self, change: Change, following: Sequence[Change]) -> tuple[Path, Made]:
        """Return the commit's wheel: grafted if its compiled modules are there, else built."""
        found = self._builds.tools(change)
        if isinstance(found, GpuError):
            raise found
        plan, toolkit = self._builds.plan(change, found[1]), found[1]
        native = self._natives[change.commit]
        if self._asked.share and native in self._donors:
            try:
                made = self._grafts.take(change.commit)
                return made or self._grafting(change, plan, toolkit)(), "grafted"
            except (BuildError, WheelError) as error:
                warn(f"{change.commit[:7]} cannot be grafted and is compiled: {error.message}")
        if (at_hand := self._at_hand(plan)) is not None:
            self._donors.setdefault(native, at_hand)
            return at_hand, "at hand"
        if (wheel := self._builds_ahead.take(change.commit)) is None:
            self._compile_another(change, following)
            wheel, compiled = self._compile(change)
            if not compiled:
                self._donors[native] = wheel
                return wheel, "at hand"
        self._donors[native] = wheel
        return wheel, "built"

    def _compile(self, change: Change, place: str = "") -> tuple[Path, bool]:
        """Return the commit's own wheel, and whether it was compiled; other searches find it by what it shares."""
        built = build(
            self._builds.situation(change),
            self._wheelhouse,
            source=self._request.source,
            offline=self._request.offline,
            rebuild=self._asked.fresh or not self._asked.share,
            place=place,
        )
        if self._asked.share:
            note_of = self._root / "donors" / self._natives[change.commit]
            write_bytes(note_of, built.wheel.filename.encode())
        return Path(built.wheel.where), built.compiled

    def _compile_another(self, change: Change, following: Sequence[Change]) -> None:
        """Compile the next state of the modules beside this one, where processors and memory are enough for both."""
        if not self._asked.share or not room_for_two(self._pin, self._builds.tools(change)):
            return
        known = {*self._donors, self._natives[change.commit]}
        for coming in following:
            native = self._natives[coming.commit]
            if native in known or self._without_wheel(coming) is not None:
                continue
            found = self._builds.tools(coming)
            if not isinstance(found, GpuError) and self._at_hand(self._builds.plan(coming, found[1])) is None:
                note(f"Compiling {coming.commit[:7]} beside {change.commit[:7]}.")
                # From here, since the sources that were looked up are kept without a lock.
                self._builds.situation(coming)
                beside = f"{found[0].place}-beside"
                self._builds_ahead.start(coming.commit, partial(self._compile_ahead, coming, beside))
            return

    def _compile_ahead(self, change: Change, place: str) -> Path:
        return self._compile(change, place)[0]

    def _earlier_donors(self) -> dict[str, Path]:
        """Return what earlier searches compiled, by native key; a search may go on after the commit it was for."""
        if self._asked.fresh or not self._asked.share:
            return {}
        found = {}
        for note_of in sorted((self._root / "donors").glob("*")):
            with contextlib.suppress(WheelhouseError):
                if (facts := self._wheelhouse.get(note_of.read_text(encoding="utf-8"))) is not None:
                    found[note_of.name] = Path(facts.where)
        return found

    def _at_hand(self, plan: Plan) -> Path | None:
        """Return the very same build from the user's wheelhouse."""
        if self._asked.fresh or not self._asked.share:
            return None
        for facts in open_wheelhouse(self._request.wheelhouse, create=False).entries(plan.project):
            if facts.record is not None and facts.record.key == plan.key:
                return Path(facts.where)
        return None

    def _verify(self, change: Change, wheel: Path) -> Verdict:
        pin = self._pin
        if self._environment is None:
            self._environment = make_throwaway(
                self._target.interpreter, self._root / "environment", project=pin.project, package=pin.package
            )
        environment = self._environment
        installer = choose_installer(environment)
        with task(f"Installing {change.commit[:7]}"):
            call(installer.install_command(environment, wheel, again=True), f"install {wheel.name}")
        return verify(
            # What is known of commits and of source must not decide: the wheel itself has to show it.
            msgspec.structs.replace(pin, known=(), fault=()),
            msgspec.structs.replace(self._target, interpreter=environment),
            level=self._asked.level,
            revision=self._builds.situation(change).revision,
        )

    def _verdict_file(self, content: str) -> Path:
        """A verdict holds for a content, judged at a level for archs, by this code, on these GPUs, with this torch."""
        interpreter = self._target.interpreter
        parts = [
            [content, self._asked.level, [str(arch) for arch in self._target.archs], self._request.fixes],
            [interpreter.version, interpreter.torch, self._target.gpus, __version__, rules(self._pin)],
        ]
        return self._root / "verdicts" / f"{sha256_bytes(msgspec.json.encode(parts))[:20]}.json"
