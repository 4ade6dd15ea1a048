"""The surroundings git runs in: none of the user's configuration, no prompts, one protocol.

Source of every variable: https://git-scm.com/docs/git#_environment_variables and
https://git-scm.com/docs/git-config
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from sagefix.files import make_cache_dir, write_text
from sagefix.settings import cache_dir

# What says where git's own parts and the machine's certificates are; proxies do not start with GIT_.
_KEPT = {"GIT_EXEC_PATH", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_PROXY_SSL_CAINFO", "GIT_SSL_BACKEND"}

_SSH = "ssh -oBatchMode=yes -oConnectTimeout=20 -oServerAliveInterval=15 -oServerAliveCountMax=3"

# Stands where the user's ~/.gitconfig would. It reaches git's upload-pack as well, which -c and
# GIT_CONFIG_COUNT do not: a repository that the user named may belong to somebody else, and serves filters
# when it is read over file://.
_CONFIG = """\
# Written by sagefix: the only git configuration that its commands read.
[safe]
\tdirectory = *
[uploadpack]
\tallowFilter = true
\tallowAnySHA1InWant = true
[gc]
\tauto = 0
[maintenance]
\tauto = false
[fetch]
\tunpackLimit = 1
\trecurseSubmodules = false
[pack]
\tthreads = 1
"""


def source_folder() -> Path:
    """Return the folder of this room in the cache."""
    return make_cache_dir(cache_dir() / "source")


def environment(protocol: str = "none", config: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables to set for git.

    ``protocol`` is the only one it may speak, ``config`` are settings that win over those in files.

    Configuration travels in the environment, so that a URL with a password in it is neither on a command
    line nor on the disk.
    """
    settings = source_folder() / "gitconfig"
    if not settings.is_file() or settings.read_text(encoding="utf-8") != _CONFIG:
        write_text(settings, _CONFIG)
    variables = {
        "LC_ALL": "C",
        "LANGUAGE": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(settings),
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_ALLOW_PROTOCOL": protocol,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "SSH_ASKPASS": "true",
        "SSH_ASKPASS_REQUIRE": "never",
        "GIT_SSH_COMMAND": _SSH,
        "GIT_SSH_VARIANT": "ssh",
        "GIT_HTTP_LOW_SPEED_LIMIT": "1000",
        "GIT_HTTP_LOW_SPEED_TIME": "30",
        # A commit is what its hash says, not what refs/replace says; and what is missing stays missing.
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_CONFIG_COUNT": str(len(config or {})),
    }
    for number, (key, value) in enumerate((config or {}).items()):
        variables[f"GIT_CONFIG_KEY_{number}"] = key
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables


def leaking(ours: Mapping[str, str]) -> list[str]:
    """Return the names of git's variables around us that must not reach it: ``GIT_DIR``, ``GIT_TRACE`` ..."""
    return sorted(
        name
        for name in os.environ
        if name.startswith("GIT_")
        and not name.startswith("GIT_PYTHON_")
        and name not in _KEPT
        and name not in ours
    )
