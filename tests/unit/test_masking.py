"""What is pasted where everybody reads it holds no secrets and no names."""

from __future__ import annotations

import pytest

from sagefix.building import masking
from sagefix.building.masking import mask


@pytest.fixture(autouse=True)
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/srv/people/ada")
    monkeypatch.setattr(masking.getpass, "getuser", lambda: "ada")
    monkeypatch.setattr(masking.socket, "gethostname", lambda: "tower7")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/srv/people/ada/venv/bin/python", "~/venv/bin/python"),
        ("/srv/people/adam/venv", "/srv/people/adam/venv"),
        ("/scratch/ada/build", "/scratch/USER/build"),
        ("adaptive-ada.cu", "adaptive-ada.cu"),
        ("File \"/home/grace/ComfyUI/x.py\"", "File \"/home/USER/ComfyUI/x.py\""),
        ("/Users/grace/x", "/Users/USER/x"),
        ("C:\\Users\\Grace Hopper\\x", "C:\\Users\\USER\\x"),
        ("C:/Users/grace/x", "C:/Users/USER/x"),
        ("full: /home/grace is at 100 %, /var/tmp", "full: /home/USER is at 100 %, /var/tmp"),
        ("/mnt/home/x", "/mnt/home/x"),
        ("/home/runner/work", "/home/runner/work"),
        ("job on tower7:", "job on HOST:"),
        ("https://user:pass@index.example.org/simple/", "https://***@index.example.org/simple/"),
        ("https://tok@github.com/a/b", "https://***@github.com/a/b"),
        ("git+https://github.com/a/b@main", "git+https://github.com/a/b@main"),
        ("https://x.org/a.whl?token=abc&v=1#sha256=12", "https://x.org/a.whl?token=***&v=1#sha256=12"),
        ("https://x.org/a?X-Amz-Signature=abc&X-Amz-Credential=d", "https://x.org/a?X-Amz-Signature=***&X-Amz-Credential=***"),
        ("ghp_0123456789012345678901234567890123456789", "***"),
        ("hf_abcdefghijklmnopqrstuvwxyz", "***"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("UV_INDEX_PASSWORD=geheim pip", "UV_INDEX_PASSWORD=*** pip"),
        ("HF_TOKEN='a b c'", "HF_TOKEN=***"),
        ("mail ada.l@example.org now", "mail EMAIL now"),
        ("git@github.com:a/b", "git@github.com:a/b"),
        ("nvcc -gencode arch=compute_90a,code=sm_90a -o a.o", "nvcc -gencode arch=compute_90a,code=sm_90a -o a.o"),
        ("RuntimeError: tokens differ; key not found", "RuntimeError: tokens differ; key not found"),
    ],
)  # fmt: skip
def test_names_and_secrets_are_taken_out_and_the_rest_stays(text: str, shown: str) -> None:
    assert mask(text) == shown


def test_a_user_that_everybody_has_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking.getpass, "getuser", lambda: "root")
    assert mask("drwx root root") == "drwx root root"


def test_a_user_without_a_name_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(masking.getpass, "getuser", nobody)
    assert mask("/srv/people/ada/x") == "~/x"
