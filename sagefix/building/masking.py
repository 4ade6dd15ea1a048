"""Takes out of a text what is nobody else's business, before it is pasted where everybody reads it."""

from __future__ import annotations

import getpass
import re
import socket
from pathlib import Path

_HIDDEN = "***"
_SHORTEST_NAME = 3

# Formats of tokens: https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/about-authentication-to-github,
# https://huggingface.co/docs/hub/security-tokens, https://pypi.org/help/#apitoken,
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html, https://docs.gitlab.com/security/tokens/.
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(\w+://)[^/\s@'\"]+@"), rf"\1{_HIDDEN}@"),
    (
        re.compile(
            r"(?i)([?&](?:[\w-]*(?:token|secret|password|signature|credential|api_?key)|key|sig|auth)=)[^&\s'\"]+"
        ),
        rf"\1{_HIDDEN}",
    ),
    (
        re.compile(
            r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|hf_\w{20,}|pypi-[\w-]{20,}|glpat-[\w-]{15,}|AKIA[0-9A-Z]{16})"
        ),
        _HIDDEN,
    ),
    (
        re.compile(
            r"(?i)\b((?:authorization|x-api-key|private-token)\s*[:=]\s*(?:(?:bearer|basic|token)\s+)?)[^\s'\"]+"
        ),
        rf"\1{_HIDDEN}",
    ),
    (re.compile(r"(?i)\b(bearer\s+)[\w.~+/=-]{8,}"), rf"\1{_HIDDEN}"),
    (
        re.compile(
            r"(?i)\b(\w*(?:token|secret|password|passwd|api_?key|access_?key|credential)\w*\s*=\s*)"
            r"(?:'[^']*'|\"[^\"]*\"|[^\s'\"&]+)"
        ),
        rf"\1{_HIDDEN}",
    ),
    (re.compile(r"\b(?!git@)[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"), "EMAIL"),
)
# Home folders of others, in logs from other machines.
_HOMES = re.compile(
    r"((?<![\w.-])/(?:home|Users)/+|\b[A-Z]:[\\/]+Users[\\/]+(?=[^\\/\n'\":;]*[\\/]))"
    r"(?!(?:USER|runner|Shared|Public)\b)((?<=/)[^\\/\s'\":;]+|[^\\/\n'\":;]+)"
)


def mask(text: str) -> str:
    """Return a text without tokens, passwords, mail addresses, home folders, user and machine names.

    What is kept is what a reader needs: the rest of each path and URL.
    """
    for pattern, put in _SECRETS:
        text = pattern.sub(put, text)
    home = str(Path.home())
    if len(home) > 1:
        text = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)
    text = _HOMES.sub(r"\1USER", text)
    for name, put in ((_user(), "USER"), (socket.gethostname(), "HOST")):
        if len(name) >= _SHORTEST_NAME and name not in ("root", "localhost"):
            text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", put, text)
    return text


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
