"""Other values in workflow files: the bytes of those values, and no other byte."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from comfyui import api, graph, loader, make_app, make_pack, write

from sagefix.errors import ComfyUIError, UsageError
from sagefix.workflows.comfyui import require_set, set_values

SAGE = {"attention": "sageattn", "precision": "bf16"}
STYLES: dict[str, dict[str, Any]] = {
    "indented": {"indent": 2},
    "one line": {"separators": (",", ":")},
    "tabs": {"indent": "\t"},
    "escapes": {"ensure_ascii": True},
    "no escapes": {"ensure_ascii": False, "indent": 1},
    "sorted": {"sort_keys": True},
}


def rich() -> dict[str, Any]:
    """A workflow with what a rewriting of JSON would lose."""
    note = {"id": 1, "type": "Note", "widgets_values": ['é \U0001f600 \u2028 sdpa \\u0041 "sdpa"']}
    return graph(note, loader(), loader(23), extra={"ds": {"scale": 1.0, "big": 1e400, "x": float("nan")}})


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("dress", ["plain", "bom", "crlf"])
def test_only_the_values_meant_change_and_the_way_back_is_the_same_file(
    tmp_path: Path, style: str, dress: str
) -> None:
    file = write(tmp_path / "w.json", rich(), **STYLES[style])
    before = file.read_bytes()
    if dress == "bom":
        before = b"\xef\xbb\xbf" + before
    if dress == "crlf":
        before = before.replace(b"\n", b"\r\n")
    file.write_bytes(before)
    (written,) = set_values([file], SAGE)
    assert [(each.node, each.field, each.before, each.after) for each in written.changes] == [
        ("22", "base_precision", "fp16", "bf16"),
        ("22", "attention_mode", "sdpa", "sageattn"),
        ("23", "base_precision", "fp16", "bf16"),
        ("23", "attention_mode", "sdpa", "sageattn"),
    ]
    after = file.read_bytes()
    assert len(after) == len(before) + 2 * len("sageattn") - 2 * len("sdpa")
    assert after.replace(b'"bf16"', b'"fp16"').replace(b'"sageattn"', b'"sdpa"') == before
    assert Path(written.backup).read_bytes() == before
    set_values([file], {"attention": "sdpa", "precision": "fp16"})
    assert file.read_bytes() == before


def test_the_api_format(tmp_path: Path) -> None:
    file = write(tmp_path / "w.json", {"prompt": api(), "client_id": "x"})
    before = file.read_bytes()
    set_values([file], SAGE)
    changed = json.loads(file.read_bytes())["prompt"]["22"]["inputs"]
    assert (changed["attention_mode"], changed["base_precision"]) == ("sageattn", "bf16")
    set_values([file], {"attention": "sdpa", "precision": "fp16"})
    assert file.read_bytes() == before


def test_a_subgraph(tmp_path: Path) -> None:
    inner = {"id": "aa", "name": "x", "nodes": [loader(3)], "links": []}
    file = write(tmp_path / "w.json", graph(definitions={"subgraphs": [inner]}))
    (written,) = set_values([file], {"attention": "sageattn"})
    assert [(each.node, each.inside) for each in written.changes] == [("3", "x")]
    assert (
        json.loads(file.read_bytes())["definitions"]["subgraphs"][0]["nodes"][0]["widgets_values"][4]
        == "sageattn"
    )


def test_what_is_so_already_is_not_written(tmp_path: Path) -> None:
    file = write(tmp_path / "w.json", graph(loader(attention="sageattn", precision="bf16")))
    stamp = file.stat().st_mtime_ns
    (written,) = set_values([file], SAGE)
    assert (written.written, written.changes, len(written.already)) == (False, (), 2)
    assert file.stat().st_mtime_ns == stamp
    assert [each.name for each in tmp_path.iterdir()] == ["w.json"]


def test_a_default_that_is_not_in_the_file_counts_as_so_already(tmp_path: Path) -> None:
    document = api()
    del document["22"]["inputs"]["attention_mode"]
    file = write(tmp_path / "w.json", document)
    (written,) = set_values([file], {"attention": "sdpa"})
    assert len(written.already) == 1
    (written,) = set_values([file], {"attention": "sageattn"})
    assert "default counts" in written.refused[0].why


def test_a_backup_is_never_overwritten(tmp_path: Path) -> None:
    file = write(tmp_path / "w.json", graph(loader()))
    first = file.read_bytes()
    backups = [
        set_values([file], {"attention": word})[0].backup
        for word in ("sageattn", "sageattn_compiled", "sdpa")
    ]
    assert len(set(backups)) == 3
    assert Path(backups[0]).read_bytes() == first
    assert not any(each.endswith(".json") for each in backups)
    # The file is as it was at first, so its first backup serves again.
    assert set_values([file], {"attention": "sageattn"})[0].backup == backups[0]


def test_permissions_and_links_stay(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("POSIX permissions")
    file = write(tmp_path / "real" / "w.json", graph(loader()))
    file.chmod(0o600)
    link = tmp_path / "w.json"
    link.symlink_to(file)
    (written,) = set_values([link], SAGE)
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == Path(written.backup).stat().st_mode & 0o777 == 0o600
    assert b"sageattn" in file.read_bytes()


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    file = write(tmp_path / "w.json", graph(loader()))
    before = file.read_bytes()
    (written,) = set_values([file], SAGE, dry_run=True)
    assert (len(written.changes), written.written) == (2, False)
    assert file.read_bytes() == before
    assert len([*tmp_path.iterdir()]) == 1


def test_one_refused_field_leaves_every_file_as_it_is(tmp_path: Path) -> None:
    good = write(tmp_path / "good.json", graph(loader()))
    bad = write(
        tmp_path / "bad.json",
        graph(loader(), {"id": 7, "type": "WanVideoModelLoader", "widgets_values": [1]}),
    )
    before = good.read_bytes(), bad.read_bytes()
    written = set_values([good, bad], SAGE)
    assert not any(each.written for each in written)
    assert (good.read_bytes(), bad.read_bytes()) == before
    with pytest.raises(ComfyUIError, match=r"Nothing was written\. .* of node 7 \(WanVideoModelLoader\)"):
        require_set(written)
    # The others can be set by their ids.
    written = set_values([bad], SAGE, nodes=["22"])
    require_set(written)
    assert written[0].written


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.json"
    text = json.dumps(api()).replace(
        '"attention_mode": "sdpa"', '"attention_mode": "x", "attention_mode": "sdpa"'
    )
    file.write_text(text, encoding="utf-8")
    (written,) = set_values([file], {"attention": "sageattn"})
    assert "stands twice" in written.refused[0].why
    assert file.read_text(encoding="utf-8") == text


def test_words_that_mean_something_to_other_nodes(tmp_path: Path) -> None:
    patch = {"id": 1, "type": "PathchSageAttentionKJ", "widgets_values": ["disabled", False]}
    seed = {
        "id": 2,
        "type": "SeedVR2LoadDiTModel",
        "widgets_values": ["m", "cuda:0", 0, False, "none", False, "sdpa"],
    }
    file = write(tmp_path / "w.json", graph(patch, seed, loader()))
    before = file.read_bytes()
    (written,) = set_values([file], {"attention": "sageattn"})
    assert [each.after for each in written.changes] == ["auto", "sageattn_2", "sageattn"]
    (written,) = set_values([file], {"attention": "sdpa"})
    assert [each.after for each in written.changes] == ["disabled", "sdpa", "sdpa"]
    assert file.read_bytes() == before


def test_a_kernel_that_means_the_same_is_kept(tmp_path: Path) -> None:
    patch = {"id": 1, "type": "PathchSageAttentionKJ", "widgets_values": ["sageattn_qk_int8_pv_fp16_triton"]}
    file = write(tmp_path / "w.json", graph(patch))
    (written,) = set_values([file], {"attention": "sageattn"})
    assert (written.changes, len(written.already)) == ((), 1)


def test_a_value_that_a_node_does_not_have_is_refused(tmp_path: Path) -> None:
    patch = {"id": 1, "type": "PathchSageAttentionKJ", "widgets_values": ["auto"]}
    (written,) = set_values([write(tmp_path / "w.json", graph(patch))], {"attention": "flash_attn_2"})
    assert "flash_attn_2 is not among its values (disabled, auto," in written.refused[0].why


def test_a_value_that_the_installed_version_does_not_have_is_refused(tmp_path: Path) -> None:
    app = make_app(tmp_path / "ComfyUI")
    make_pack(app)
    file = write(app / "user" / "default" / "workflows" / "w.json", graph(loader()))
    # The installation that the file lies in is asked, without being named.
    (written,) = set_values([file], {"attention": "sageattn_compiled"})
    assert written.refused[0].why.endswith("says ComfyUI-WanVideoWrapper 1.3.0, as it is installed")
    elsewhere = write(tmp_path / "w.json", graph(loader()))
    assert set_values([elsewhere], {"attention": "sageattn_compiled"})[0].written


@pytest.mark.parametrize(
    ("asked", "kind", "said"),
    [
        ({}, UsageError, "Nothing is to be set"),
        ({"attention": "fast"}, UsageError, "--attention fast is nothing"),
        ({"attention": "bf16"}, UsageError, "--attention bf16 is nothing"),
        ({"precision": "int8"}, UsageError, "--precision int8 is nothing"),
    ],
)
def test_words_that_no_node_knows(tmp_path: Path, asked: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        set_values([write(tmp_path / "w.json", graph(loader()))], asked)


def test_a_file_in_which_nothing_chooses(tmp_path: Path) -> None:
    plain = write(tmp_path / "w.json", graph({"id": 1, "type": "KSampler", "widgets_values": [1, "fixed"]}))
    with pytest.raises(ComfyUIError, match="none of its nodes is known to choose attention"):
        set_values([plain], {"attention": "sageattn"})
    patch = write(
        tmp_path / "p.json", graph({"id": 1, "type": "PathchSageAttentionKJ", "widgets_values": ["auto"]})
    )
    with pytest.raises(ComfyUIError, match="none of its nodes is known to choose precision"):
        set_values([patch], {"precision": "bf16"})
    with pytest.raises(ComfyUIError, match="has no node 99"):
        set_values([patch], {"attention": "sdpa"}, nodes=["99"])


def test_unknown_nodes_that_look_as_if_they_chose_are_left_and_named(tmp_path: Path) -> None:
    file = write(
        tmp_path / "w.json", graph(loader(), {"id": 9, "type": "Foreign", "widgets_values": ["sageattn"]})
    )
    (written,) = set_values([file], {"attention": "sageattn"})
    assert written.left == ("node 9 (Foreign)",)
    assert json.loads(file.read_bytes())["nodes"][1]["widgets_values"] == ["sageattn"]


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    file = write(tmp_path / "shut" / "w.json", graph(loader()))
    before = file.read_bytes()
    file.parent.chmod(0o500)
    try:
        with pytest.raises(Exception, match="not writable"):
            set_values([file], SAGE)
    finally:
        file.parent.chmod(0o700)
    assert file.read_bytes() == before
