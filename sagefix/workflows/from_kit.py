"""A request that is served by a kit alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from sagefix.errors import KitError, NoWheelError, UsageError
from sagefix.kits.opening import Opened, opened
from sagefix.pins.load import load_pin
from sagefix.pins.refs import resolve_ref
from sagefix.workflows.installed import Installed
from sagefix.workflows.situation import Request


@contextmanager
def using_kit(request: Request) -> Iterator[tuple[Request, Opened]]:
    """Open the kit of a request; give the request as it is then, offline and with the kit's source, and the kit.

    Raises :class:`UsageError`: something else to take from was named, too; :class:`KitError`: the kit is damaged, or of
    another pin or commit than is asked for.
    """
    if request.source is not None or request.index:
        named = "--source" if request.source is not None else "--index"
        raise UsageError(f"--kit and {named} exclude each other: with a kit nothing else is used.")
    with opened(Path(request.kit or "").expanduser().absolute()) as kit:
        manifest = kit.manifest
        if request.pin and request.pin != manifest.pin:
            raise KitError(
                f"{kit.file} is a kit of the pin {manifest.pin}, not of {request.pin}.",
                hint="Leave --pin out, or name the kit of that pin.",
            )
        pin = load_pin(manifest.pin)
        known = resolve_ref(pin, request.ref) if request.ref else None
        asked = known.commit if known else (request.ref or manifest.commit)
        if asked not in (manifest.commit, manifest.ref):
            raise KitError(
                f"{kit.file} holds {manifest.project} at {manifest.commit[:7]}, not {request.ref}.",
                hint=f"Leave --ref out, or make a kit with --ref {request.ref}.",
            )
        own = pin.source.commit == manifest.commit
        served_by = replace(
            request,
            pin=manifest.pin,
            ref=None if own else manifest.commit,
            source=kit.source,
            offline=True,
        )
        try:
            yield served_by, kit
        except NoWheelError as error:
            error.hint = "Make a kit with a wheel for this Python, torch and GPU, or let it compile."
            raise


@contextmanager
def served(request: Request) -> Iterator[Request]:
    """Give a request as it is, or as its kit serves it; raises as :func:`using_kit`."""
    if request.kit is None:
        yield request
    else:
        with using_kit(request) as (inside, _):
            yield inside


def shown(done: Installed, kit: Opened) -> Installed:
    """Return what an install did, with files of the kit named as such: the folder they were in has gone."""
    decisions = tuple(
        replace(each, facts=replace(each.facts, where=kit.shown(each.facts.where))) for each in done.decisions
    )
    return replace(done, wheel=kit.shown(done.wheel), decisions=decisions)
