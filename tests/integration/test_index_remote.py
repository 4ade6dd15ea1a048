"""Somebody else's index: read when it is right, refused with the reason when it is not."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from support import LABEL, Handler, Server, make_wheel, serving

from sagefix.errors import RemoteIndexError, WheelhouseError
from sagefix.files import sha256_file
from sagefix.wheelhouse.links import JSON_TYPE
from sagefix.wheelhouse.model import Listing, RemoteWheel
from sagefix.wheelhouse.remote import RemoteIndex, candidates, download
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.wheelhouse.urls import shown

NAME = f"sageattention-2.2.0+{LABEL}-py3-none-any.whl"
PAGE = "/sageattention/"
FILE = PAGE + quote(NAME)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def house(tmp_path: Path) -> Wheelhouse:
    """A wheelhouse with one wheel of about 300 kB, so that it comes in several pieces."""
    house = Wheelhouse.open(tmp_path / "house")
    noise = hashlib.shake_256(b"noise").hexdigest(300_000)
    house.add(make_wheel(tmp_path / "dist", body=f"value = {noise!r}\n"))
    return house


@pytest.fixture
def server(house: Wheelhouse) -> Iterator[Server]:
    with serving(house.path) as running:
        yield running


@pytest.fixture
def index(server: Server) -> Iterator[RemoteIndex]:
    with RemoteIndex(server.url, timeout=1, attempts=3, backoff=0.01) as opened:
        yield opened


def digest(house: Wheelhouse) -> str:
    return house.entries()[0].sha256


def page(*anchors: str) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(b"<!DOCTYPE html>\n" + "<br>\n".join(anchors).encode())


def anchor(name: str = NAME, *, href: str | None = None, sha256: str = "0" * 64, more: str = "") -> str:
    link = quote(name) if href is None else href
    return f'<a href="{link}{f"#sha256={sha256}" if sha256 else ""}" {more}>{name}</a>'


def test_a_wheelhouse_is_read_over_http_without_downloading_its_wheels(
    house: Wheelhouse, server: Server, index: RemoteIndex
) -> None:
    (facts,) = index.candidates("SageAttention")
    (kept,) = house.entries()
    assert facts.where == server.url + FILE[1:]
    assert facts.requires_torch == "==2.11.*"
    assert facts.requires_python == ">=3.9"
    for field in ("filename", "project", "version", "label", "tags", "sha256"):
        assert getattr(facts, field) == getattr(kept, field)
    assert server.paths() == [PAGE, FILE + ".metadata"]
    assert JSON_TYPE in server.requests[0][1]["Accept"]
    index.candidates("sageattention", tags=("cp312-cp312-linux_x86_64",))
    assert server.paths() == [PAGE, FILE + ".metadata"], "the page is kept, METADATA of no use is not fetched"


def test_json_is_read_too(house: Wheelhouse, server: Server, index: RemoteIndex) -> None:
    data = (house.path / "sageattention" / "index.json").read_bytes()
    server.behaviour[PAGE] = lambda handler: handler.answer(data, Content_Type=JSON_TYPE)
    (facts,) = index.candidates("sageattention")
    assert facts.sha256 == digest(house)
    assert facts.size == house.entries()[0].size
    assert facts.requires_torch == "==2.11.*"


def test_download(house: Wheelhouse, index: RemoteIndex, server: Server, tmp_path: Path) -> None:
    path = index.download(NAME, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / NAME
    assert sha256_file(path) == digest(house)
    asked = len(server.requests)
    assert index.download(NAME, tmp_path / "new" / "folder") == path
    assert len(server.requests) == asked, "what is there is not fetched again"
    assert sorted(entry.name for entry in path.parent.iterdir()) == [".lock", NAME]
    with pytest.raises(RemoteIndexError, match="does not offer"):
        index.download(NAME.replace("2.2.0", "2.2.1"), tmp_path)
    with pytest.raises(WheelhouseError, match="not the file name of a wheel"):
        index.download("../" + NAME, tmp_path)


def test_the_short_functions(house: Wheelhouse, server: Server, tmp_path: Path) -> None:
    (facts,) = candidates(server.url, "sageattention")
    assert sha256_file(download(facts, tmp_path / "a")) == digest(house)
    (facts,) = candidates(house.path.as_uri(), "sageattention")
    assert sha256_file(download(facts, tmp_path / "b")) == digest(house)
    other = msgspec.structs.replace(facts, sha256="1" * 64)
    with pytest.raises(RemoteIndexError, match="No index that was asked offers"):
        download(other, tmp_path)


def test_an_index_on_disk(house: Wheelhouse, tmp_path: Path) -> None:
    index = RemoteIndex(house.path.as_uri())
    (facts,) = index.candidates("sageattention")
    assert facts.requires_torch == "==2.11.*"
    assert facts.where == (house.path / "sageattention").as_uri() + "/" + quote(NAME)
    assert sha256_file(index.download(NAME, tmp_path / "d")) == digest(house)
    with pytest.raises(RemoteIndexError, match=r"has no other: .* does not exist"):
        index.listing("other")
    wheel = house.path / "sageattention" / NAME
    wheel.write_bytes(wheel.read_bytes()[:-1])
    with pytest.raises(RemoteIndexError, match="is not the file that its index describes"):
        index.download(NAME, tmp_path / "e")
    assert list((tmp_path / "e").iterdir()) == []
    wheel.unlink()
    with pytest.raises(RemoteIndexError, match="does not exist"):
        index.download(NAME, tmp_path / "e")


# Resuming


def ranged(content: bytes) -> Callable[[Handler], None]:
    """Serve content and understand ``Range: bytes=N-``."""

    def answer(handler: Handler) -> None:
        match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        if match is None:
            handler.answer(content)
        elif int(match[1]) >= len(content):
            handler.answer(b"", status=416, Content_Range=f"bytes */{len(content)}")
        else:
            start = int(match[1])
            handler.answer(
                content[start:], status=206, Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}"
            )

    return answer


def cut(content: bytes) -> Callable[[Handler], None]:
    """Promise the content and send half of it."""
    return lambda handler: handler.answer(content[: len(content) // 2], Content_Length=str(len(content)))


def in_turn(*behaviours: Callable[[Handler], None]) -> Callable[[Handler], None]:
    left = list(behaviours)

    def behave(handler: Handler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return behave


def asked_ranges(server: Server) -> list[str | None]:
    return [headers.get("Range") for path, headers in server.requests if path == FILE]


@pytest.fixture
def content(house: Wheelhouse) -> bytes:
    return (house.path / "sageattention" / NAME).read_bytes()


def test_a_cut_download_is_resumed(
    server: Server, index: RemoteIndex, content: bytes, tmp_path: Path
) -> None:
    server.behaviour[FILE] = in_turn(cut(content), ranged(content))
    assert index.download(NAME, tmp_path / "d").read_bytes() == content
    first, second = asked_ranges(server)
    assert first is None
    assert second is not None
    assert second.startswith("bytes=")
    assert second != "bytes=0-"


def test_a_cut_download_starts_again_where_ranges_are_not_known(
    server: Server, index: RemoteIndex, content: bytes, tmp_path: Path
) -> None:
    server.behaviour[FILE] = in_turn(cut(content), lambda handler: handler.answer(content))
    assert index.download(NAME, tmp_path / "d").read_bytes() == content
    assert len(asked_ranges(server)) == 2


def test_a_later_call_goes_on_and_leaves_nothing(
    server: Server, index: RemoteIndex, content: bytes, tmp_path: Path
) -> None:
    server.behaviour[FILE] = cut(content)
    with pytest.raises(RemoteIndexError, match="broke off"):
        index.download(NAME, tmp_path / "d")
    (part,) = (tmp_path / "d").glob("*.part")
    assert 0 < part.stat().st_size < len(content)
    server.behaviour[FILE] = ranged(content)
    assert index.download(NAME, tmp_path / "d").read_bytes() == content
    assert asked_ranges(server)[-1] == f"bytes={len(content) // 2}-"
    assert not list((tmp_path / "d").glob("*.part"))


@pytest.mark.parametrize("left", ["wrong", "longer", "whole"])
def test_whatever_a_former_download_left(
    server: Server, index: RemoteIndex, content: bytes, tmp_path: Path, left: str
) -> None:
    (tmp_path / "d").mkdir()
    sha256 = hashlib.sha256(content).hexdigest()
    part = tmp_path / "d" / f".{sha256[:16]}-{NAME}.part"
    part.write_bytes({"wrong": b"x" * 100, "longer": content + b"x", "whole": content}[left])
    server.behaviour[FILE] = ranged(content)
    assert index.download(NAME, tmp_path / "d").read_bytes() == content


def test_a_part_that_was_not_asked_for(
    server: Server, index: RemoteIndex, content: bytes, tmp_path: Path
) -> None:
    server.behaviour[FILE] = lambda handler: handler.answer(
        content[5:], status=206, Content_Range=f"bytes 5-{len(content) - 1}/{len(content)}"
    )
    with pytest.raises(RemoteIndexError, match="part of the file that was not asked for"):
        index.download(NAME, tmp_path / "d")


# Lies


def test_a_lie_about_the_hash(server: Server, index: RemoteIndex, content: bytes, tmp_path: Path) -> None:
    server.behaviour[FILE] = lambda handler: handler.answer(content[:-1] + b"x")
    with pytest.raises(RemoteIndexError, match="is not the file that the index describes") as raised:
        index.download(NAME, tmp_path / "d")
    assert "Do not install" in raised.value.hint
    assert raised.value.details["expected"] == hashlib.sha256(content).hexdigest()
    assert [entry.name for entry in (tmp_path / "d").iterdir()] == [".lock"]


def test_a_lie_about_metadata(server: Server, index: RemoteIndex) -> None:
    server.behaviour[FILE + ".metadata"] = lambda handler: handler.answer(
        b"Metadata-Version: 2.1\nName: evil\n"
    )
    with pytest.raises(RemoteIndexError, match="is not the METADATA that the index describes"):
        index.candidates("sageattention")


def test_metadata_that_is_not_there_is_unknown(server: Server, index: RemoteIndex) -> None:
    server.behaviour[FILE + ".metadata"] = lambda handler: handler.answer(b"", status=404)
    assert index.candidates("sageattention")[0].requires_torch == ""


def test_more_than_was_promised(
    house: Wheelhouse, server: Server, index: RemoteIndex, content: bytes, tmp_path: Path
) -> None:
    data = (house.path / "sageattention" / "index.json").read_bytes()
    server.behaviour[PAGE] = lambda handler: handler.answer(data, Content_Type=JSON_TYPE)
    server.behaviour[FILE] = lambda handler: handler.answer(content * 3)
    with pytest.raises(RemoteIndexError, match="sends more than"):
        index.download(NAME, tmp_path / "d")
    assert not list((tmp_path / "d").glob("*.part"))


@pytest.mark.parametrize(
    ("offered", "reason"),
    [
        (anchor("../x.whl", href="../x.whl"), "its name is a path"),
        (anchor("..\\x.whl", href="x.whl"), "its name is a path"),
        (anchor(NAME, href="../evil.whl"), "its link leads to another file, 'evil.whl'"),
        (anchor(NAME, href="https://example.org/"), "its link leads to another file, ''"),
        (anchor("sageattention-2.2.0.tar.gz"), "it is a source archive, not a wheel"),
        (anchor("setup.exe"), "its name is not that of a wheel"),
        (anchor("other-1.0-py3-none-any.whl"), "it is a wheel of other, not of sageattention"),
        (anchor(sha256=""), "the index gives no sha256 for it"),
        (anchor(sha256="abc"), "the index gives no sha256 for it"),
        (f'<a href="{quote(NAME)}#md5={"0" * 32}">{NAME}</a>', "the index gives no sha256 for it"),
        (anchor(more='data-yanked="broken on Hopper"'), "it was yanked: broken on Hopper"),
    ],
)
def test_files_that_cannot_be_candidates(
    server: Server, index: RemoteIndex, tmp_path: Path, offered: str, reason: str
) -> None:
    good = "sageattention-2.2.0-py3-none-any.whl"
    server.behaviour[PAGE] = page(offered, anchor(good))
    listing = index.listing("sageattention")
    assert [wheel.filename for wheel in listing.wheels] == [good]
    (refused,) = listing.refused
    assert reason in refused.reason
    if refused.filename == NAME:
        with pytest.raises(RemoteIndexError, match="was refused") as raised:
            index.download(NAME, tmp_path / "d")
        assert raised.value.hint
    assert not (tmp_path / "d").exists()
    assert server.paths() == [PAGE]


def test_json_names_are_looked_at_as_well(server: Server, index: RemoteIndex) -> None:
    names = ["../x.whl", "sageattention-1-py3-none-any.whl\n", NAME]
    files = [
        {"filename": name, "url": "https://example.org/x", "hashes": {"sha256": "0" * 64}} for name in names
    ]
    body = json.dumps({"meta": {"api-version": "1.9"}, "name": "Sage_Attention", "files": files}).encode()
    server.behaviour[PAGE] = lambda handler: handler.answer(body, Content_Type=JSON_TYPE)
    with pytest.raises(RemoteIndexError, match="is the page of 'Sage_Attention', not of sageattention"):
        index.listing("sageattention")
    body = body.replace(b"Sage_Attention", b"SageAttention")
    listing = index.listing("sageattention")
    assert [wheel.filename for wheel in listing.wheels] == [NAME]
    assert len(listing.refused) == 2


def test_the_older_name_of_core_metadata_and_credentials_in_links(server: Server, index: RemoteIndex) -> None:
    more = f'data-dist-info-metadata="sha256={"a" * 64}"'
    server.behaviour[PAGE] = page(
        anchor(href=f"https://me:secret@example.org/{quote(NAME)}?token=t", more=more)
    )
    assert index.listing("sageattention") == Listing(
        wheels=(
            RemoteWheel(
                filename=NAME,
                project="sageattention",
                url=f"https://example.org/{quote(NAME)}?token=t",
                sha256="0" * 64,
                has_metadata=True,
                metadata_sha256="a" * 64,
            ),
        )
    )


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"<html>", "text/plain", "content type is text/plain"),
        (b"{", JSON_TYPE, "is not the page of a package index"),
        (b'{"name": 3}', JSON_TYPE, "is not the page of a package index"),
        (b"[]", JSON_TYPE, "is not the page of a package index"),
        (b'{"meta": {"api-version": "9.0"}, "name": "sageattention", "files": []}', JSON_TYPE, "version"),
        (b'<meta name="pypi:repository-version" content="9.0">', "text/html", "version"),
        (b'<a href="http://[/x">x</a>', "text/html", "is not the page of a package index"),
    ],
)
def test_nonsense(server: Server, index: RemoteIndex, body: bytes, content_type: str, message: str) -> None:
    server.behaviour[PAGE] = lambda handler: handler.answer(body, Content_Type=content_type)
    with pytest.raises(RemoteIndexError, match=message) as raised:
        index.listing("sageattention")
    assert raised.value.hint


# Trouble on the way


def test_a_server_that_hangs(server: Server, tmp_path: Path) -> None:
    def hang(handler: Handler) -> None:
        server.ended.wait(20)

    server.behaviour[PAGE] = hang
    started = time.monotonic()
    with (
        RemoteIndex(server.url, timeout=0.2, attempts=2, backoff=0.01) as index,
        pytest.raises(RemoteIndexError, match=r"did not answer within 0\.2 s"),
    ):
        index.listing("sageattention")
    assert time.monotonic() - started < 3
    assert len(server.requests) == 2


def test_a_server_that_hangs_within_a_file(
    server: Server, index: RemoteIndex, content: bytes, tmp_path: Path
) -> None:
    def stall(handler: Handler) -> None:
        cut(content)(handler)
        handler.wfile.flush()
        server.ended.wait(20)

    server.behaviour[FILE] = in_turn(stall, ranged(content))
    assert index.download(NAME, tmp_path / "d").read_bytes() == content
    assert len(asked_ranges(server)) == 2


def test_nobody_there(tmp_path: Path) -> None:
    with serving(tmp_path) as gone:
        url = gone.url
    with (
        RemoteIndex(url, timeout=1, attempts=2, backoff=0.01) as index,
        pytest.raises(RemoteIndexError, match="cannot be reached") as raised,
    ):
        index.listing("sageattention")
    assert "network" in raised.value.hint


def test_busy_twice_then_right(house: Wheelhouse, server: Server, index: RemoteIndex) -> None:
    data = (house.path / "sageattention" / "index.html").read_bytes()

    def busy(handler: Handler) -> None:
        handler.answer(b"", status=503, Retry_After="0")

    def throttled(handler: Handler) -> None:
        handler.answer(b"", status=429, Retry_After="Wed, 21 Oct 2065 07:28:00 GMT")

    server.behaviour[PAGE] = in_turn(busy, throttled, lambda handler: handler.answer(data))
    assert len(index.listing("sageattention").wheels) == 1
    assert server.paths() == [PAGE] * 3


@pytest.mark.parametrize(
    ("status", "requests", "message"),
    [
        (500, 3, "answered 500"),
        (404, 1, "has no sageattention: .* answered 404"),
        (403, 1, "answered 403"),
        (402, 1, "answered 402"),
    ],
)
def test_refusals(server: Server, index: RemoteIndex, status: int, requests: int, message: str) -> None:
    server.behaviour[PAGE] = lambda handler: handler.answer(b"", status=status)
    with pytest.raises(RemoteIndexError, match=message):
        index.listing("sageattention")
    assert len(server.requests) == requests


def redirect(to: str) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(b"", status=302, Location=to)


def test_redirects_are_followed_on_this_machine(
    house: Wheelhouse, server: Server, index: RemoteIndex
) -> None:
    server.behaviour[PAGE] = redirect("/elsewhere/")
    server.behaviour["/elsewhere/"] = redirect(f"{server.url}sageattention/index.html")
    (facts,) = index.candidates("sageattention")
    assert facts.where == server.url + FILE[1:], "links are relative to where the page was found"


@pytest.mark.parametrize(
    ("to", "message"),
    [
        (PAGE, "redirects more than 5 times"),
        ("http://example.org/", r"http://example\.org/ is not encrypted"),
        ("file:///etc/passwd", "file:///etc/passwd is not an address of a web server"),
        ("ftp://example.org/x", "is not an address of a web server"),
    ],
)
def test_redirects_that_are_not_followed(server: Server, index: RemoteIndex, to: str, message: str) -> None:
    server.behaviour[PAGE] = redirect(to)
    with pytest.raises(RemoteIndexError, match=message):
        index.listing("sageattention")


def test_a_file_of_this_machine_offered_from_the_web(
    house: Wheelhouse, server: Server, index: RemoteIndex, tmp_path: Path
) -> None:
    local = (house.path / "sageattention" / NAME).as_uri()
    more = f'data-core-metadata="sha256={"0" * 64}"'
    server.behaviour[PAGE] = page(anchor(href=local, sha256=digest(house), more=more))
    with pytest.raises(RemoteIndexError, match="by a link to a file of this machine"):
        index.download(NAME, tmp_path / "d")
    with pytest.raises(RemoteIndexError, match="by a link to a file of this machine"):
        index.candidates("sageattention")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("wheels", "is not the address of an index"),
        ("ftp://example.org/", "is not the address of an index"),
        ("https://[", "is not a URL"),
        ("https://example.org:port/", "is not a URL"),
    ],
)
def test_addresses_that_are_none(url: str, message: str) -> None:
    with pytest.raises(RemoteIndexError, match=message) as raised:
        RemoteIndex(url)
    assert "https://" in raised.value.hint


def test_plain_http_to_other_machines() -> None:
    with pytest.raises(RemoteIndexError, match="is not encrypted") as raised:
        RemoteIndex("http://me:secret@example.org/simple").listing("sageattention")
    assert "secret" not in str(raised.value) + raised.value.hint


def test_credentials_go_to_their_server_alone_and_are_never_shown(
    house: Wheelhouse, server: Server, tmp_path: Path
) -> None:
    with serving(house.path) as other:
        server.behaviour[PAGE] = page(anchor(href=other.url + FILE[1:], sha256=digest(house)))
        server.behaviour["/busy/"] = lambda handler: handler.answer(b"", status=401)
        url = server.url.replace("127.0.0.1", "me:s%40cret@127.0.0.1")
        with RemoteIndex(url, timeout=1, attempts=1) as index:
            assert index.url == server.url
            (facts,) = index.candidates("sageattention")
            index.download(NAME, tmp_path / "d")
            with pytest.raises(RemoteIndexError, match="answered 401") as raised:
                index.listing("busy")
        assert server.requests[0][1]["Authorization"] == "Basic bWU6c0BjcmV0"
        assert all("Authorization" not in headers for _, headers in other.requests)
        for text in (repr(facts), repr(index.listing("sageattention")), str(raised.value)):
            assert "cret" not in text


def test_urls_as_they_are_shown() -> None:
    assert shown("https://me:secret@example.org:8/a%2Bb?token=1#sha256=2") == "https://example.org:8/a%2Bb"
