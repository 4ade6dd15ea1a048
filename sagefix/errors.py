"""Everything that can go wrong, as one tree.

Each class stands for one kind of failure and has an exit code and a name of its own (both are documented in
``docs/exit-codes.md`` and appear in ``--json`` output). The message says what happened, the hint says what to
do. Rooms raise these; only :mod:`sagefix.cli` turns them into text and an exit status.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class SagefixError(Exception):
    """A failure that sagefix expected to be possible.

    ``message``: what happened, one sentence or a few. ``hint``: what to do about it. ``details``: facts for
    machines (JSON types only), shown by ``--json`` and never needed to understand the message.
    """

    exit_code: ClassVar[int] = 1
    name: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str = "", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details: dict[str, Any] = dict(details or {})

    def __str__(self) -> str:
        return self.message


class UsageError(SagefixError):
    """An option or argument cannot be understood, or two of them exclude each other."""

    exit_code = 2
    name = "usage"


class PinError(SagefixError):
    """A manifest is missing or wrong, or a ref cannot be resolved."""

    exit_code = 3
    name = "pin"


class KnownBadError(SagefixError):
    """The ref is known to be broken on the wanted arch, and ``--allow-known-bad`` was not given."""

    exit_code = 4
    name = "known-bad"


class TargetError(SagefixError):
    """The interpreter cannot be used: missing, too old, crashes, or lacks what a build or install needs."""

    exit_code = 5
    name = "target"


class TorchError(SagefixError):
    """torch is missing in the target, cannot be read, or has no CUDA."""

    exit_code = 6
    name = "torch"


class GpuError(SagefixError):
    """No GPU was found, several kinds were, or the wanted arch cannot be built or used at this ref."""

    exit_code = 7
    name = "gpu"


class ToolchainError(SagefixError):
    """The CUDA toolkit or the host compiler is missing, incomplete, or does not fit torch or the arch."""

    exit_code = 8
    name = "toolchain"


class SourceError(SagefixError):
    """The source cannot be fetched, or is not what the pin says."""

    exit_code = 9
    name = "source"


class BuildError(SagefixError):
    """The build backend or a compiler failed."""

    exit_code = 10
    name = "build"


class WheelError(SagefixError):
    """A wheel is damaged, misnamed, or lacks what its pin promises."""

    exit_code = 11
    name = "wheel"


class WheelhouseError(SagefixError):
    """The wheelhouse cannot be read or written, or holds damaged or foreign files."""

    exit_code = 12
    name = "wheelhouse"


class RemoteIndexError(SagefixError):
    """A remote index cannot be reached, answers nonsense, or serves a file that is not what it said."""

    exit_code = 13
    name = "index"


class NoWheelError(SagefixError):
    """No wheel fits the target and building was not allowed."""

    exit_code = 14
    name = "no-wheel"


class InstallError(SagefixError):
    """The installer failed; what was installed before is still there or was put back."""

    exit_code = 15
    name = "install"


class VerificationError(SagefixError):
    """A verification ran to its end and its verdict is negative."""

    exit_code = 16
    name = "verification"


class DoctorError(SagefixError):
    """``doctor`` found at least one failure."""

    exit_code = 17
    name = "doctor"


class DiskError(SagefixError):
    """No space is left, a quota is reached, or a path cannot be written."""

    exit_code = 18
    name = "disk"


class LockError(SagefixError):
    """Another sagefix process holds a lock for longer than this one was told to wait."""

    exit_code = 19
    name = "lock"


class ProcessError(SagefixError):
    """A program could not be started, ran out of time or ended with an error nobody translated.

    ``details`` holds ``command`` (quoted), ``returncode`` (or null) and ``tail`` (last lines of output).
    """

    exit_code = 20
    name = "process"


class PrebuildError(SagefixError):
    """At least one cell of a matrix failed or is not there; the others were built and are kept."""

    exit_code = 21
    name = "prebuild"


class UnexplainedError(SagefixError):
    """``explain`` found nothing it knows in a log or an error text (its report is there to be pasted); or
    ``comfyui log`` nothing that tells which attention ran."""

    exit_code = 22
    name = "unexplained"


class RebuildError(SagefixError):
    """A wheel cannot be built again from its record, or what came out is not byte for byte the same.

    ``details`` holds ``environment`` (what differs from where it was built) and ``members`` (files that differ).
    """

    exit_code = 23
    name = "rebuild"


class BisectError(SagefixError):
    """A search for the commit that changed a verdict has none: the good ref is not good, or nothing changes.

    ``details`` holds ``kind`` (``good-is-bad``, ``not-judged`` or ``never-changes``) and ``commit``.
    """

    exit_code = 24
    name = "bisect"


class OutdatedError(SagefixError):
    """With ``outdated --exit-code``: what is installed is not up to date, or nothing is installed."""

    exit_code = 25
    name = "outdated"


class ComfyUIError(SagefixError):
    """``comfyui``: a workflow file cannot be read or edited, or ``check`` or ``log`` found something wrong."""

    exit_code = 26
    name = "comfyui"


class KitError(SagefixError):
    """A kit is damaged, is not one, is of another pin, or cannot be made."""

    exit_code = 27
    name = "kit"


class InterruptedByUser(SagefixError):  # noqa: N818 - the field says "interrupted", not "interrupt error"
    """Ctrl-C or SIGTERM."""

    exit_code = 130
    name = "interrupted"


def all_errors() -> list[type[SagefixError]]:
    """Return every class of the tree but the root, by exit code (documentation and tests read this)."""
    return sorted(SagefixError.__subclasses__(), key=lambda kind: kind.exit_code)
