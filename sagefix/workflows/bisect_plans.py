"""How each commit of a search would be built: its source from the cache, its recipe, its tools, its plan."""

from __future__ import annotations

import os

from sagefix.building.plan import Plan, make_plan
from sagefix.errors import GpuError
from sagefix.pins.model import Pin, Recipe, Revision
from sagefix.source.fetch import fetch
from sagefix.source.lines import Change
from sagefix.source.model import Fetched
from sagefix.targets.compilers import find_c_compiler
from sagefix.targets.cuda import Toolkit, find_host_compiler
from sagefix.targets.host import GIB, cores, memory
from sagefix.targets.model import Target
from sagefix.workflows.build import plan_build
from sagefix.workflows.situation import Request, Situation


class Builds:
    """The builds of a search, each looked up once. ``by_recipe``: a plan and its toolkit, or why there is none."""

    def __init__(self, request: Request, pin: Pin, target: Target) -> None:
        self._request, self._pin, self._target = request, pin, target
        self._sources: dict[str, Fetched] = {}
        self.by_recipe: dict[str, tuple[Plan, Toolkit | None] | GpuError] = {}

    def situation(self, change: Change) -> Situation:
        return Situation(
            pin=self._pin,
            revision=Revision(
                commit=change.commit,
                tree=change.tree,
                recipe=recipe_of_change(self._pin, change).name,
                asked=change.commit,
            ),
            target=self._target,
            fetched=self.fetched(change),
            fixes=self._request.fixes,
            cuda=self._request.cuda,
            offline=self._request.offline,
            object_cache=self._request.object_cache,
        )

    def fetched(self, change: Change) -> Fetched:
        """Return the commit's source, which came into the cache with the history."""
        if change.commit not in self._sources:
            self._sources[change.commit] = fetch(
                self._pin,
                change.commit,
                tree=change.tree,
                origin=self._request.source,
                offline=self._request.offline,
            )
        return self._sources[change.commit]

    def tools(self, change: Change) -> tuple[Plan, Toolkit | None] | GpuError:
        """Return a plan and the toolkit for commits with this recipe, or why they cannot be built for these archs."""
        name = recipe_of_change(self._pin, change).name
        if name not in self.by_recipe:
            try:
                self.by_recipe[name] = plan_build(self.situation(change))
            except GpuError as error:
                self.by_recipe[name] = error
        return self.by_recipe[name]

    def plan(self, change: Change, toolkit: Toolkit | None) -> Plan:
        """Return the plan of a commit, with the toolkit that was chosen for its recipe."""
        find = find_host_compiler if self._pin.device == "cuda" else find_c_compiler
        situation = self.situation(change)
        return make_plan(
            self._pin,
            situation.revision,
            self._target,
            toolkit=toolkit,
            compiler=find(os.environ),
            fixes=situation.fixes,
        )


def recipe_of_change(pin: Pin, change: Change) -> Recipe:
    """Return the recipe of a commit by its setup.py; an unknown one is taken for the newest, and checked."""
    return pin.recipe_for(change.blob_of("setup.py")) or pin.recipe[-1]


def room_for_two(pin: Pin, found: tuple[Plan, Toolkit | None] | GpuError) -> bool:
    """Say whether two builds of this kind take less time beside each other than one after the other.

    Each extension has one file that compiles for most of a build's time, so that a build keeps about as many
    processors busy as it has extensions, and each of these takes the memory that the pin states. Who sets
    ``MAX_JOBS`` has said how much may run.
    """
    if isinstance(found, GpuError) or os.environ.get("MAX_JOBS", "").strip():
        return False
    busy = 2 * max(1, len(found[0].identity.extensions))
    return cores() >= busy and memory().available >= busy * pin.build.memory_gib * GIB
