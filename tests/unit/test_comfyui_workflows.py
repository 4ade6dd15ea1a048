"""Workflow files: what is read in both formats, and what is left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from comfyui import LOADER, api, graph, loader, make_app, make_pack, write
from hypothesis import given, settings
from hypothesis import strategies as st

from sagefix.comfyui.fields import Field, find_fields, suspects
from sagefix.comfyui.nodepacks import InstalledNode, find_pack, installed_node, pack_version
from sagefix.comfyui.spans import AmbiguousError, find_span
from sagefix.comfyui.table import load_comfyui
from sagefix.comfyui.workflows import Workflow, parse_workflow, read_workflow
from sagefix.errors import ComfyUIError

TABLE = load_comfyui()


def parsed(document: Any) -> Workflow:
    return parse_workflow("w.json", json.dumps(document).encode())


def fields(document: Any, node: InstalledNode | None = None) -> dict[str, Field]:
    found = find_fields(parsed(document), TABLE, lambda *_: node)
    return {f"{field.node.id}.{field.name}": field for field in found}


def node_of(tmp_path: Path, source: str) -> InstalledNode | None:
    folder = make_pack(make_app(tmp_path / "app"), source)
    return installed_node(folder, folder.name, "WanVideoModelLoader")


def ui(values: list[Any], kind: str = "WanVideoModelLoader") -> dict[str, Any]:
    return graph({"id": 1, "type": kind, "widgets_values": values})


# --- spans

_JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=True) | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def _paths(value: Any) -> list[tuple[str | int, ...]]:
    items: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [(), *((key, *rest) for key, inner in items for rest in _paths(inner))]


@given(_JSON, st.sampled_from([None, 1, "\t"]), st.booleans(), st.data())
@settings(max_examples=150, deadline=None)
def test_a_span_holds_exactly_the_value(value: Any, indent: Any, ascii_: bool, data: st.DataObject) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_)
    path = data.draw(st.sampled_from(_paths(value)))
    inner = value
    for key in path:
        inner = inner[key]
    span = find_span(text, path)
    assert repr(json.loads(text[span.start : span.end])) == repr(json.loads(json.dumps(inner)))


def test_a_key_that_stands_twice_is_ambiguous() -> None:
    with pytest.raises(AmbiguousError, match="'a' stands twice"):
        find_span('{"a": 1, "b": {"a": 2}, "\\u0061": 3}', ("a",))
    assert find_span('{"a": 1, "b": {"a": 2}, "a": 3}', ("b", "a")) == (20, 21)


@pytest.mark.parametrize("path", [("x",), ("a", "x"), ("b", 5), ("a", 0), ("b", "x")])
def test_a_path_that_leads_nowhere(path: tuple[str | int, ...]) -> None:
    with pytest.raises(KeyError):
        find_span('{"a": {}, "b": [1, 2]}', path)


# --- files


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"\x89PNG\r\n\x1a\n\x00", "is a picture"),
        (b"\xff\xfe{\x00", "not text in UTF-8"),
        (b"{", "is not JSON"),
        (b"[" * 200_000, "is not JSON"),
        (b"[]", "no workflow of ComfyUI"),
        (b'{"nodes": {}}', "no workflow of ComfyUI"),
        (b'{"prompt": "a cat"}', "no workflow of ComfyUI"),
    ],
)
def test_what_is_no_workflow_is_refused(raw: bytes, said: str) -> None:
    with pytest.raises(ComfyUIError, match=said):
        parse_workflow("w.json", raw)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ComfyUIError, match="cannot be read"):
        read_workflow(tmp_path / "none.json")


def test_nodes_of_odd_shapes_are_read_past() -> None:
    odd = graph(loader(), {"id": 1}, {"id": 2, "type": None, "mode": "x", "inputs": None}, links="none")
    odd["nodes"] += [None, 7, {"id": 3, "type": "WanVideoModelLoader", "widgets_values": None}]
    found = fields(odd)
    assert found["22.attention_mode"].value == "sdpa"
    assert "holds no values" in found["3.attention_mode"].unreadable


# --- the UI format


def test_values_are_read_by_their_place() -> None:
    found = fields(graph(loader(attention="sageattn", precision="bf16")))
    assert {name: field.value for name, field in found.items()} == {
        "22.base_precision": "bf16",
        "22.attention_mode": "sageattn",
    }
    assert found["22.attention_mode"].path == ("nodes", 0, "widgets_values", 4)


def test_the_place_follows_the_version_that_wrote_the_file() -> None:
    old = fields(ui(["x.safetensors", False, "auto"], "CheckpointLoaderKJ"))
    new = fields(ui(["x", "default", "bf16", False, "auto", True], "CheckpointLoaderKJ"))
    assert {name: field.path[-1] for name, field in old.items()} == {"1.sage_attention": 2}
    assert {name: field.path[-1] for name, field in new.items()} == {
        "1.compute_dtype": 2,
        "1.sage_attention": 4,
    }


def test_values_in_no_known_order_are_not_guessed() -> None:
    found = fields(ui(["m", "offload_device", "bf16", "disabled", "sdpa"]))
    assert "no order that is known of WanVideoModelLoader" in found["1.attention_mode"].unreadable
    assert found["1.attention_mode"].path == ()


def test_a_list_that_ends_before_the_field_means_its_default() -> None:
    field = fields(ui(["m", "bf16", "disabled", "main_device"]))["1.attention_mode"]
    assert (field.value, field.holds) == (None, "sdpa")
    assert "default counts" in field.fixed


def test_values_by_name_in_the_ui_format() -> None:
    held = {"attention_mode": "sageattn", "base_precision": "bf16"}
    field = fields(graph({"id": 1, "type": "WanVideoModelLoader", "widgets_values": held}))[
        "1.attention_mode"
    ]
    assert field.path == ("nodes", 0, "widgets_values", "attention_mode")


def test_a_widget_that_a_link_drives_is_not_read_from_its_list() -> None:
    socket = {"name": "attention_mode", "type": "COMBO", "widget": {"name": "attention_mode"}, "link": 5}
    document = graph(loader(inputs=[socket]))
    document["links"] = [[5, 7, 0, 22, 0, "COMBO"]]
    field = fields(document)["22.attention_mode"]
    assert field.unreadable == "its value comes from node 7"
    assert field.value is None


def test_the_list_of_widgets_in_the_file_has_to_agree() -> None:
    names = ["model", "attention_mode", "base_precision", "quantization", "load_device"]
    sockets = [{"name": name, "widget": {"name": name}, "link": None} for name in names]
    field = fields(graph(loader(inputs=sockets)))["22.attention_mode"]
    assert "lists it as widget 2, and it is known as widget 5" in field.unreadable


@pytest.mark.parametrize(("mode", "said"), [(0, "runs"), (2, "muted"), (4, "bypassed")])
def test_states_of_nodes(mode: int, said: str) -> None:
    assert parsed(graph(loader(mode=mode))).nodes[0].mode == said


def subgraph(*nodes: dict[str, Any], proxies: list[list[str]] | None = None) -> dict[str, Any]:
    made = {"id": "aa-bb", "name": "Loaders", "nodes": [*nodes], "links": []}
    outer = {"id": 5, "type": "aa-bb", "properties": {"proxyWidgets": proxies or []}, "widgets_values": []}
    return graph(outer, definitions={"subgraphs": [made]})


def test_nodes_inside_subgraphs() -> None:
    field = fields(subgraph(loader(3)))["3.attention_mode"]
    assert field.path == ("definitions", "subgraphs", 0, "nodes", 0, "widgets_values", 4)
    assert "in the subgraph 'Loaders'" in field.label
    assert field.fixed == ""


def test_a_widget_that_a_subgraph_shows_outside_is_read_and_not_edited() -> None:
    found = fields(subgraph(loader(3), proxies=[["3", "attention_mode"]]))
    assert found["3.attention_mode"].value == "sdpa"
    assert "node of its subgraph" in found["3.attention_mode"].fixed
    assert found["3.base_precision"].fixed == ""


def test_a_widget_that_is_linked_to_the_outside_of_its_subgraph() -> None:
    socket = {"name": "attention_mode", "widget": {"name": "attention_mode"}, "link": 9}
    document = subgraph(loader(3, inputs=[socket]))
    document["definitions"]["subgraphs"][0]["links"] = [{"id": 9, "origin_id": -10, "target_id": 3}]
    assert (
        fields(document)["3.attention_mode"].unreadable == "its value comes from the outside of the subgraph"
    )


def test_nodes_inside_group_nodes_are_named_and_not_read() -> None:
    document = graph(extra={"groupNodes": {"Pair": {"nodes": [loader(0)]}}})
    assert "part of a group node" in fields(document)["0.attention_mode"].unreadable


# --- the API format


@pytest.mark.parametrize("wrapped", [False, True])
def test_values_are_read_by_name(wrapped: bool) -> None:
    document = {"prompt": api(), "client_id": "x"} if wrapped else api()
    field = fields(document)["22.attention_mode"]
    assert field.value == "sdpa"
    assert field.path == (*(("prompt",) if wrapped else ()), "22", "inputs", "attention_mode")


def test_a_linked_input_and_one_that_is_left_out() -> None:
    document = api(base_precision=["7", 0])
    del document["22"]["inputs"]["attention_mode"]
    found = fields(document)
    assert found["22.base_precision"].unreadable == "its value comes from node 7"
    assert (found["22.attention_mode"].value, found["22.attention_mode"].holds) == (None, "sdpa")


def test_a_value_of_another_type_is_no_choice() -> None:
    assert "holds 3, which is no value" in fields(api(attention_mode=3))["22.attention_mode"].unreadable


# --- unknown nodes


def test_unknown_nodes_that_look_as_if_they_chose_are_named() -> None:
    document = graph(
        {"id": 1, "type": "Foreign", "widgets_values": ["x", "sageattn_fancy"]},
        {"id": 2, "type": "Note", "widgets_values": ["sdpa should work, too; sageattn is faster"]},
        {"id": 3, "type": "CLIPTextEncode", "widgets_values": ["a sage in a forest"]},
    )
    assert [(node.id, sign) for node, sign in suspects(parsed(document), TABLE)] == [("1", "sageattn_fancy")]
    other = {"4": {"class_type": "Foreign", "inputs": {"attention_mode": "x"}}, **api()}
    assert [node.id for node, _ in suspects(parsed(other), TABLE)] == ["4"]


# --- installed packs


def test_an_installed_node_is_read_without_importing_it(tmp_path: Path) -> None:
    node = node_of(tmp_path, LOADER)
    assert node is not None
    assert node.version == "1.3.0"
    assert node.position("attention_mode") == 4
    found = node.input("attention_mode")
    assert found is not None
    assert found.options == ("sdpa", "flash_attn_2", "sageattn", "sageattn_3")


def test_packs_are_found_in_whatever_case(tmp_path: Path) -> None:
    app = make_app(tmp_path / "app")
    folder = make_pack(app, name="comfyui-wanvideowrapper")
    assert find_pack(app / "custom_nodes", "ComfyUI-WanVideoWrapper") == folder
    assert pack_version(folder) == "1.3.0"
    assert find_pack(app / "custom_nodes", "ComfyUI-KJNodes") is None
    assert find_pack(app / "none", "ComfyUI-KJNodes") is None


def test_the_installed_version_decides_about_places_and_values(tmp_path: Path) -> None:
    moved = LOADER.replace('"base_precision": (["fp32"', '"seed": ("INT", {}), "base_precision": (["fp32"')
    node = node_of(tmp_path, moved)
    assert node is not None
    assert node.position("base_precision") == 3, "a seed has a second widget"
    values = ["m", 7, "randomize", "bf16", "disabled", "main_device", "sageattn_3"]
    field = fields(ui(values), node)["1.attention_mode"]
    assert (field.value, field.path[-1]) == ("sageattn_3", 6)
    assert field.allowed_by == "ComfyUI-WanVideoWrapper 1.3.0, as it is installed"


def test_a_file_of_another_version_than_the_installed_one_is_not_guessed(tmp_path: Path) -> None:
    moved = LOADER.replace('"base_precision"', '"extra": (["sdpa"],), "base_precision"')
    moved = moved.replace('"attention_mode"', '"later": (["x"],), "attention_mode"')
    node = node_of(tmp_path, moved)
    assert node is not None
    values = ["m", "bf16", "disabled", "offload_device", "sdpa", "default", "sageattn"]
    assert node.position("attention_mode") == 6
    assert "written by another version" in fields(ui(values), node)["1.attention_mode"].unreadable


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"quantization": (["disabled", "fp8"], {"default": "disabled"})', '"quantization": (choices(),)'),
        ('"quantization": (["disabled", "fp8"], {"default": "disabled"})', "**more"),
        ('"quantization": (["disabled", "fp8"], {"default": "disabled"})', 'NAME: (["disabled"],)'),
        (
            '"quantization": (["disabled", "fp8"], {"default": "disabled"})',
            '"quantization": ("INT", OPTIONS)',
        ),
        (
            '"quantization": (["disabled", "fp8"], {"default": "disabled"})',
            '"quantization": ("INT", {"forceInput": X})',
        ),
    ],
)
def test_an_installed_node_that_is_not_understood_leaves_the_table(
    tmp_path: Path, old: str, new: str
) -> None:
    assert old in LOADER
    node = node_of(tmp_path, LOADER.replace(old, new))
    assert node is not None
    assert node.position("base_precision") == 1
    assert node.position("attention_mode") is None
    assert fields(graph(loader()), node)["22.attention_mode"].path[-1] == 4


@pytest.mark.parametrize(
    "broken", ["class WanVideoModelLoader(:", "class WanVideoModelLoader:\n    pass\n", "\0"]
)
def test_a_pack_that_cannot_be_read_leaves_the_table(tmp_path: Path, broken: str) -> None:
    assert node_of(tmp_path, broken) is None


def test_a_node_of_the_newer_interface(tmp_path: Path) -> None:
    node = node_of(
        tmp_path,
        """
class WanVideoModelLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="WanVideoModelLoader", inputs=[
            io.Model.Input("upstream"),
            io.Combo.Input("model", options=models),
            io.Custom("ARGS").Input("args", optional=True),
            io.Int.Input("noise_seed", default=0, control_after_generate=True),
            io.String.Input("path", force_input=True),
            io.Combo.Input("attention_mode", options=["sdpa", "sageattn"], default="sdpa"),
        ], outputs=[])
""",
    )
    assert node is not None
    assert node.position("attention_mode") == 3
    assert [each.kind for each in node.inputs] == ["socket", "widget", "socket", "widget", "socket", "widget"]


def test_every_layout_of_the_table_is_told_from_the_others_by_its_values() -> None:
    """Whatever layouts a node had, values of one of them are never read by the places of another."""
    for node in TABLE.node:
        for layout in node.layouts:
            known = {choice.field: TABLE.values_of(choice)[0].value for choice in node.choice}
            values = [known[name] if name in known else node.known.get(name, ("x",))[0] for name in layout]
            found = fields(ui(values, node.type))
            for choice in node.choice:
                field = found.get(f"1.{choice.field}")
                if choice.field in layout:
                    assert field is not None
                    assert field.path[-1] == layout.index(choice.field), (node.type, layout, field.unreadable)


def test_files_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = write(tmp_path / "w.json", graph(loader()))
    workflow = read_workflow(file)
    assert workflow.form == "ui"
    assert workflow.text.encode() == file.read_bytes()
