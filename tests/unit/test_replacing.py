"""Programs that put ``sageattn`` in the place of torch's attention: found by reading, in every way people write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagefix.pins.load import load_pin
from sagefix.proof.replacing import find_replacements
from sagefix.targets.model import Interpreter
from sagefix.workflows.programs import check_customizations, check_programs

PIN = load_pin("sageattention")
ONE_LINE = (
    "import torch.nn.functional as F\nfrom sageattention import sageattn\n"
    "F.scaled_dot_product_attention = sageattn\n"
)


@pytest.mark.parametrize(
    "source",
    [
        ONE_LINE,
        "import torch\nimport sageattention\ntorch.nn.functional.scaled_dot_product_attention = sageattention.sageattn",
        "from sageattention import sageattn as fast\nif USE:\n    F.scaled_dot_product_attention = fast",
        "from sageattention import sageattn\nsetattr(F, 'scaled_dot_product_attention', sageattn)",
        "from sageattention import sageattn as scaled_dot_product_attention",
        "from sageattention.core import sageattn\nscaled_dot_product_attention = sageattn",
        "import functools, sageattention as s\n"
        "F.scaled_dot_product_attention = functools.partial(s.sageattn, tensor_layout='HND')",
        "from sageattention import sageattn\nattention = sageattn\nF.scaled_dot_product_attention: object = attention",
        "from sageattention import sageattn\n"
        "F.scaled_dot_product_attention = lambda q, k, v, **kw: sageattn(q, k, v, is_causal=kw['is_causal'])",
        "from sageattention import sageattn\n"
        "def patched(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False):\n"
        "    return sageattn(q, k, v, is_causal=is_causal)\n"
        "F.scaled_dot_product_attention = patched",
        "def load():\n    import sageattention as s\n    F.scaled_dot_product_attention = s.sageattn if ON else F.x",
    ],
)
def test_a_plain_replacement_is_found(source: str) -> None:
    (found,) = find_replacements(source.encode())
    assert found.line == source.count("\n", 0, len(source.rstrip("\n"))) + 1
    assert "sageattn" in found.text
    assert "ignored in silence" in found.text


@pytest.mark.parametrize(
    "source",
    [
        "from sageattention import sageattn\n"
        "def patched(q, k, v, attn_mask=None, **more):\n"
        "    if attn_mask is not None:\n        return old(q, k, v, attn_mask, **more)\n"
        "    return sageattn(q, k, v)\n"
        "F.scaled_dot_product_attention = patched",
        "from sageattention import sageattn\n"
        "def patched(*args, **kwargs):\n"
        "    return old(*args, **kwargs) if kwargs.get('attn_mask') is not None else sageattn(*args)\n"
        "F.scaled_dot_product_attention = patched",
        "from sageattention import sageattn\nold = F.scaled_dot_product_attention\nx = sageattn(q, k, v)",
        "import sageattention\nF.scaled_dot_product_attention = original",
        "from elsewhere import sageattn\nF.scaled_dot_product_attention = sageattn",
        "from sagefix import attention\nattention.enable()  # not F.scaled_dot_product_attention = sageattn",
        "from sageattention import sageattn\nF.scaled_dot_product_attention = sageattn\n<<<<<<< HEAD",
        "a = a\nF.scaled_dot_product_attention = a",
    ],
)
def test_what_looks_at_the_mask_or_is_something_else_is_not(source: str) -> None:
    assert find_replacements(source.encode()) == []


def test_a_folder_is_read_without_its_environments(tmp_path: Path) -> None:
    for name in ("server/model.py", "venv/lib/x.py", "site-packages/y.py", ".git/z.py", "server/fine.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(ONE_LINE if "fine" not in name else "x = 1\n")
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    (check,) = check_programs([tmp_path], PIN)
    assert check.status == "warning"
    assert check.found.startswith(
        "A hazard: server/model.py:3: `F.scaled_dot_product_attention = sageattn` puts sageattention.sageattn in the "
        "place of torch's attention"
    )
    assert "sagefix.attention.enable()" in check.fix
    fine, gone = check_programs([tmp_path / "server/fine.py", tmp_path / "gone"], PIN)
    assert (fine.status, fine.found) == (
        "ok",
        "1 Python file read: nothing replaces torch's attention outright.",
    )
    assert gone.status == "failure"


def test_what_python_runs_first_is_read(tmp_path: Path) -> None:
    def target() -> Interpreter:
        return Interpreter(
            executable="python", version="3.12.0", implementation="cpython", machine="x86_64", prefix="",
            base_prefix="", platform_tag="", python_tag="", abi_tag="", tags=(), glibc="", ext_suffix="",
            purelib="", platlib="", sys_path=(str(tmp_path),), python_h="", externally_managed=False, packages={},
        )  # fmt: skip

    assert check_customizations(target(), PIN) == []
    (tmp_path / "sage.pth").write_text(
        "/somewhere/sageattention\n"
        "import torch.nn.functional as F, sageattention; F.scaled_dot_product_attention = sageattention.sageattn\n"
    )
    (check,) = check_customizations(target(), PIN)
    assert f"{tmp_path / 'sage.pth'}:2:" in check.found
    (tmp_path / "sitecustomize.py").write_text(ONE_LINE)
    (check,) = check_customizations(target(), PIN)
    assert f"{tmp_path / 'sitecustomize.py'}:3:" in check.found
