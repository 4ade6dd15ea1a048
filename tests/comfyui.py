"""Installations, workflows and node packs in the formats of ComfyUI, small and written for these tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PACK = "ComfyUI-WanVideoWrapper"
# The order of inputs is the fact; everything around it is as little as a node needs.
LOADER = """
MODES = ["sdpa", "flash_attn_2", "sageattn"] + ["sageattn_3"]


class WanVideoModelLoader:
    @classmethod
    def INPUT_TYPES(s):
        return {
            "required": {
                "model": (folder_paths.get_filename_list("a") + folder_paths.get_filename_list("b"), {"tooltip": "x"}),
                "base_precision": (["fp32", "bf16", "fp16"], {"default": "bf16"}),
                "quantization": (["disabled", "fp8"], {"default": "disabled"}),
                "load_device": (["main_device", "offload_device"],),
            },
            "optional": {
                "compile_args": ("WANCOMPILEARGS",),
                "attention_mode": (MODES, {"default": "sdpa"}),
            },
        }


raise SystemExit("a node was imported")
"""


def loader(number: int = 22, attention: str = "sdpa", precision: str = "fp16", **more: Any) -> dict[str, Any]:
    """A loader of models in the UI format."""
    values = ["some\\model.safetensors", precision, "disabled", "offload_device", attention]
    return {
        "id": number,
        "type": "WanVideoModelLoader",
        "mode": 0,
        "inputs": [],
        "widgets_values": values,
        **more,
    }


def graph(*nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A workflow in the UI format."""
    return {"last_node_id": 99, "nodes": [*nodes], "links": [], "groups": [], "version": 0.4, **more}


def api(**inputs: Any) -> dict[str, Any]:
    """A workflow in the API format."""
    values = {"model": "m", "base_precision": "fp16", "load_device": "main_device", "attention_mode": "sdpa"}
    return {
        "22": {
            "inputs": {**values, **inputs},
            "class_type": "WanVideoModelLoader",
            "_meta": {"title": "Loader"},
        },
        "3": {"inputs": {"steps": 6, "model": ["22", 0]}, "class_type": "WanVideoSampler"},
    }


def write(path: Path, document: Any, **style: Any) -> Path:
    """Write a workflow as ComfyUI does, or in another style."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(json.dumps(document, **(style or {"indent": 2})).encode())
    return path


def make_app(folder: Path, version: str = "0.3.40") -> Path:
    """The parts of ComfyUI by which it is recognised."""
    (folder / "comfy").mkdir(parents=True)
    for name in ("main.py", "nodes.py"):
        (folder / name).write_text("", encoding="ascii")
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n', encoding="ascii")
    (folder / "custom_nodes").mkdir()
    return folder


def make_pack(app: Path, source: str = LOADER, name: str = PACK, version: str = "1.3.0") -> Path:
    """A pack of nodes in an installation."""
    folder = app / "custom_nodes" / name
    folder.mkdir(parents=True)
    (folder / "nodes_loading.py").write_text(source, encoding="utf-8")
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "{PACK}"\nversion = "{version}"\n', encoding="utf-8"
    )
    return folder


def make_venv(folder: Path) -> Path:
    """A virtual environment with nothing in it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder


def make_embedded(folder: Path) -> Path:
    """A Python in the layout of ``python_embeded``: its program at the top, under the name it has on Windows."""
    venv = make_venv(folder.parents[1] / "what-it-is-made-of")
    folder.mkdir()
    # A script, since a link out of its environment would be another Python.
    program = folder / "python.exe"
    program.write_text(f'#!/bin/sh\nexec "{venv}/bin/python" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return folder
