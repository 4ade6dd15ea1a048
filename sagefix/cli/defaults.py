"""From the settings of a file to the defaults of options.

Keys at the top go to every command that has such an option, a table named for a command (``[install]``, or
``[wheelhouse]`` for all commands of that group) goes to that one. ``no-build`` and ``no_build`` are one key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def default_map(root: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in the form in which the root command hands them down to its commands."""
    defaults: dict[str, Any] = {}
    for name, command in root.commands.items():
        merged = {
            _plain(key): value for key, value in {**_common(settings), **_table(settings, name)}.items()
        }
        if hasattr(command, "commands"):
            defaults[name] = {child: _chosen(leaf, merged) for child, leaf in command.commands.items()}
        else:
            defaults[name] = _chosen(command, merged)
    return defaults


def unknown_keys(root: Any, settings: Mapping[str, Any]) -> list[str]:
    """Return the keys that nothing reads, as one writes them: ``verifyy``, ``install.verifyy``."""
    known = {
        name: {key for leaf in _leaves(command) for key in _settable(leaf)}
        for name, command in root.commands.items()
    }
    everywhere = set().union(*known.values())
    unknown = [key for key in _common(settings) if _plain(key) not in everywhere]
    for key, value in settings.items():
        if isinstance(value, dict):
            if key not in known:
                unknown.append(key)
            else:
                unknown += [f"{key}.{each}" for each in value if _plain(each) not in known[key]]
    return unknown


def _common(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if not isinstance(value, dict)}


def _table(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = settings.get(name)
    return table if isinstance(table, dict) else {}


def _plain(key: str) -> str:
    return key.replace("-", "_")


def _leaves(command: Any) -> list[Any]:
    return list(command.commands.values()) if hasattr(command, "commands") else [command]


def _settable(command: Any) -> dict[str, Any]:
    """The options that a file may set. Whoever reads the output asks for JSON, not the folder it runs in."""
    return {
        each.name: each
        for each in command.params
        if each.param_type_name == "option" and not each.is_eager and each.name != "json"
    }


def _chosen(command: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {}
    for name, option in _settable(command).items():
        if name in settings:
            value = settings[name]
            # One index may be written without brackets.
            chosen[name] = [value] if option.multiple and not isinstance(value, list) else value
    return chosen
