"""The exchange of ``torch.nn.functional.scaled_dot_product_attention``, and the way back.

It is an attribute of a module, so it is exchanged for the whole process, whatever thread asks.
"""

import contextlib
import dataclasses
import importlib
import logging
import sys
import threading
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from sagefix.attention import facts as known
from sagefix.attention import reasons
from sagefix.attention.counting import Counter

_log = logging.getLogger("sagefix.attention")
NAME = "scaled_dot_product_attention"
CALL = "sageattention:sageattn"
LEAST_TORCH = (2, 4)
"""The first with ``torch.library.custom_op`` and ``torch.get_autocast_dtype``."""


@dataclasses.dataclass(frozen=True)
class Status:
    """What is going on.

    ``enabled``: calls of ``F.scaled_dot_product_attention`` are looked at; ``why`` says why not, or what else is in
    the way. ``version`` is that of SageAttention, ``devices`` what is known of those that long calls came on.
    ``routed`` counts calls that SageAttention computed, ``passed`` those that went to torch, by the words of
    :data:`sagefix.attention.reasons.WORDS`; both since the last :func:`enable` that changed anything. ``unreached``
    names what imported the function by itself before, and goes on calling torch's. ``last_error`` is what
    ``sageattn`` raised first.
    """

    enabled: bool
    why: str = ""
    version: str = ""
    routed: int = 0
    passed: Dict[str, int] = dataclasses.field(default_factory=dict)
    devices: Tuple[Dict[str, Any], ...] = ()
    unreached: Tuple[str, ...] = ()
    last_error: str = ""

    def as_dict(self) -> Dict[str, Any]:
        """Return it as JSON has it."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        passed = ", ".join(f"{count} {word}" for word, count in self.passed.items())
        counts = f"{self.routed} calls to SageAttention, {sum(self.passed.values())} to torch"
        return (
            ("enabled" if self.enabled else "not enabled")
            + (f": {self.why}" if self.why else "")
            + f"; {counts}"
            + (f" ({passed})" if passed else "")
        )


@dataclasses.dataclass(frozen=True)
class _Settings:
    require_proof: bool
    min_tokens: Optional[int]
    facts: Optional[str]


class _State:
    """Everything that calls look at; ``table`` is None while nothing is routed."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.counter = Counter()
        self.router: Optional[Callable[..., Any]] = None
        self.original: Optional[Callable[..., Any]] = None
        self.table: Any = None
        self.caller: Any = None
        self.settings: Optional[_Settings] = None
        self.version = ""
        self.why = ""
        self.asked = False
        self.contexts = 0
        self.generation = 0
        self.said: List[str] = []
        self.routers: List[Tuple[Callable[..., Any], Callable[..., Any]]] = []
        # One for each settings, so that compiled code that has seen one finds it again.
        self.made: Dict[Any, Tuple[Any, Any]] = {}


_state = _State()


def enable(
    *, require_proof: bool = True, min_tokens: Optional[int] = None, facts: Optional[str] = None
) -> Status:
    """Route ``F.scaled_dot_product_attention`` from here on, in every thread, until :func:`disable`.

    ``require_proof=False`` routes where nobody proved the numbers, too. ``min_tokens`` takes the place of the
    crossovers that were measured, for every dtype, head_dim and is_causal. ``facts`` names a file to use in place of
    the installed one. Called again, it replaces the settings.

    Where SageAttention is missing, known to be wrong or unproven, torch's attention stays in place; the reason is in
    the answer, and is logged once as a warning of the logger ``sagefix.attention``.

    Raises :class:`ValueError`: ``min_tokens`` is not positive.
    """
    settings = _settings(require_proof, min_tokens, facts)
    with _state.lock:
        _state.asked = True
        _switch_on(settings)
    return status()


def disable() -> Status:
    """Put back what was there before, whatever contexts are still open.

    If somebody else has exchanged the function since, theirs stays, and calls that reach this package through it go
    straight to torch.
    """
    with _state.lock:
        _state.asked = False
        _state.contexts = 0
        _state.generation += 1
        _switch_off()
    return status()


@contextlib.contextmanager
def enabled(
    *, require_proof: bool = True, min_tokens: Optional[int] = None, facts: Optional[str] = None
) -> Iterator[Status]:
    """Route while the block runs: for the whole process, not for one thread.

    Blocks may overlap, in one thread or several; the last that ends switches off, unless :func:`enable` was called.
    Raises :class:`ValueError` when it is enabled already with other settings.
    """
    settings = _settings(require_proof, min_tokens, facts)
    with _state.lock:
        if _state.table is not None and _state.settings != settings:
            raise ValueError(
                f"sagefix.attention is enabled already, with other settings: {_state.settings}, not {settings}."
            )
        _state.contexts += 1
        generation = _state.generation
        _switch_on(settings)
    try:
        yield status()
    finally:
        with _state.lock:
            if generation == _state.generation:
                _state.contexts -= 1
                if _state.contexts == 0 and not _state.asked:
                    _switch_off()


def status() -> Status:
    """Return what is going on, with the counts of all threads."""
    with _state.lock:
        counts = _state.counter.read()
        table, caller = _state.table, _state.caller
        return Status(
            enabled=table is not None,
            why=_why(),
            version=_state.version,
            routed=counts.pop(reasons.ROUTED, 0),
            passed=counts,
            devices=tuple(known.as_plain(each) for each in table.met) if table is not None else (),
            unreached=_unreached() if table is not None else (),
            last_error=caller.last_error if caller is not None else "",
        )


def _settings(require_proof: bool, min_tokens: Optional[int], facts: Optional[str]) -> _Settings:
    if min_tokens is not None and min_tokens < 1:
        raise ValueError(f"min_tokens has to be positive, not {min_tokens}.")
    return _Settings(require_proof, min_tokens, facts)


def _switch_on(settings: _Settings) -> None:
    if _state.settings == settings and _state.table is not None:
        return
    _state.settings = settings
    _state.counter.reset()
    _state.why, prepared = "", None
    try:
        prepared = _prepare(settings)
    except _NotHereError as reason:
        _state.why = str(reason)
        if _state.why not in _state.said:
            _state.said.append(_state.why)
            _log.warning("Attention stays torch's own: %s", _state.why)
    if prepared is None:
        _take_out()
        _state.table = _state.caller = None
        return
    _put_in()
    _state.table, _state.caller = prepared
    # The operator of compiled code and a table that is used again may know another one.
    from sagefix.attention import calling

    _state.caller.original = _state.original
    calling.use(_state.caller)


def _switch_off() -> None:
    _take_out()
    _state.table = _state.caller = _state.settings = None
    _state.why = ""


class _NotHereError(Exception):
    """Why nothing can be routed in this process."""


def _prepare(settings: _Settings) -> Tuple[Any, Any]:
    """Return table and caller. Raises :class:`_NotHereError`."""
    try:
        facts = known.find(settings.facts)
    except known.FactsError as error:
        raise _NotHereError(str(error)) from error
    call, project = (facts.call, facts.project) if facts else (CALL, CALL.partition(":")[0])
    version, fingerprint = known.installed(project)
    if not version:
        raise _NotHereError(f"{project} is not installed in {sys.executable}.")
    _state.version = version
    if facts is not None and (version, fingerprint) != (facts.version, facts.fingerprint):
        if settings.require_proof:
            raise _NotHereError(
                f"{project} {version} is not what was looked at ({facts.version}): run `sagefix attention install` "
                "again."
            )
        facts = None
    if facts is not None and facts.wrong:
        raise _NotHereError(f"{project} {version} is known to be wrong: {facts.wrong}")
    if facts is not None and settings.require_proof and not any(each.proof for each in facts.devices):
        why = "; ".join(dict.fromkeys(each.unproven for each in facts.devices if each.unproven))
        raise _NotHereError(
            f"the numbers of {project} {version} are proven on no GPU ({why or 'nobody verified them'}): run "
            "`sagefix attention install` where the GPU is."
        )
    if facts is None and settings.require_proof:
        raise _NotHereError(
            f"nothing is known of {project} {version}: run `sagefix attention install --python {sys.executable}`, or "
            "enable(require_proof=False, min_tokens=...)."
        )
    import torch

    if tuple(int(part) for part in torch.__version__.split("+", 1)[0].split(".")[:2]) < LEAST_TORCH:
        raise _NotHereError(f"torch {torch.__version__} is older than {'.'.join(map(str, LEAST_TORCH))}.")
    key = (facts, settings)
    if key not in _state.made:
        _state.made[key] = _make(facts or known.Facts(call, project, version, fingerprint), settings)
    return _state.made[key]


def _make(facts: known.Facts, settings: _Settings) -> Tuple[Any, Any]:
    module, _, attribute = facts.call.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise _NotHereError(f"{facts.call} cannot be imported ({type(error).__name__}: {error}).") from error
    from sagefix.attention.calling import Caller
    from sagefix.attention.table import TorchTable

    table = TorchTable(facts, require_proof=settings.require_proof, min_tokens=settings.min_tokens)
    return table, Caller(function, lambda *_, **__: None, _state.counter)


def _put_in() -> None:
    from torch.nn import functional

    if _state.router is not None:
        # It is in place, or somebody put theirs over it and may call it: to wrap theirs again would be a circle.
        return
    from sagefix.attention.routing import make_router

    there = getattr(functional, NAME)
    # The same function each time: code that was compiled with it then needs no compiling again.
    router = next((router for original, router in _state.routers if original is there), None)
    if router is None:
        router = make_router(_state, there)
        _state.routers.append((there, router))
    _state.original, _state.router = there, router
    setattr(functional, NAME, router)


def _take_out() -> None:
    if _state.router is None:
        return
    from torch.nn import functional

    there = getattr(functional, NAME)
    if there is _state.router:
        setattr(functional, NAME, _state.original)
        _state.router = _state.original = None
    elif _state.table is not None:
        _log.warning(
            "F.%s was exchanged by %s after enable(); that stays, and what it hands on goes to torch.",
            NAME,
            _name(there),
        )


def _why() -> str:
    if _state.why or _state.table is None:
        return _state.why
    from torch.nn import functional

    there = getattr(functional, NAME)
    if there is not _state.router:
        return f"F.{NAME} was exchanged by {_name(there)} after enable(); what it hands on is still looked at"
    return ""


def _name(function: Any) -> str:
    return f"{getattr(function, '__module__', None)}.{getattr(function, '__qualname__', function)}"


def _unreached() -> Tuple[str, ...]:
    """Return the names under which modules hold the function that was there before: their calls are not seen."""
    found = []
    seen = set()
    for module_name, module in sorted(sys.modules.items()):
        # One module may have several names.
        if id(module) in seen or module_name.split(".")[0] in ("torch", "sagefix"):
            continue
        seen.add(id(module))
        names = getattr(module, "__dict__", {})
        found += [f"{module_name}.{name}" for name, value in list(names.items()) if value is _state.original]
    return tuple(found)
