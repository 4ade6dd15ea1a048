"""What every test gets: an environment of its own, without what the developer's shell could leak in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_LEAKING = (
    "MAX_JOBS",
    "EXT_PARALLEL",
    "TORCH_CUDA_ARCH_LIST",
    "CUDA_HOME",
    "CUDA_PATH",
    "CUDA_VISIBLE_DEVICES",
    "LIBRARY_PATH",
    "CPATH",
    "CC",
    "CXX",
    "CFLAGS",
    "CXXFLAGS",
    "LDFLAGS",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PYTHONPATH",
    "SOURCE_DATE_EPOCH",
)


@pytest.fixture(autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scrub the environment and give each test a cache folder of its own; return that folder."""
    for name in [*os.environ]:
        if name in _LEAKING or name.startswith(("SAGEFIX_", "GIT_")):
            monkeypatch.delenv(name)
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SAGEFIX_CACHE_DIR", str(cache))
    monkeypatch.setenv("SAGEFIX_WHEELHOUSE", str(cache / "wheels"))
    return cache
