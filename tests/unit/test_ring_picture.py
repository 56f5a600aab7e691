"""The picture of the ring that `examples/` draws, and those in `docs/` that it has drawn."""

import json
import re
import runpy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from gkv import ring
from gkv.model import Node

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
example = runpy.run_path(str(ROOT / "examples" / "ring_picture.py"))


def answer(weights: dict[str, float], epoch: int = 3, vnodes: int = ring.DEFAULT_VNODES, **more: Any) -> dict[str, Any]:
    """Return what /v1/ring answers."""
    nodes = [{"id": one, "url": f"http://{one}", "weight": weight} for one, weight in weights.items()]
    return {"epoch": epoch, "hash": ring.HASH, "seed": 0, "vnodes": vnodes, "replicas": 1, "nodes": nodes} | more


def built(weights: dict[str, float], vnodes: int = ring.DEFAULT_VNODES) -> ring.Ring:
    return ring.build([Node(one, "", weight) for one, weight in weights.items()], vnodes)


def drawn(weights: dict[str, float], **more: Any) -> Any:
    return example["Drawn"].of(answer(weights, **more))


TWO = {"127.0.0.1:9000": 1.0, "127.0.0.1:9001": 1.0}
THREE = TWO | {"127.0.0.1:9002": 1.0}


def texts(svg: str) -> list[str]:
    return [found.text or "" for found in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("weights", [{"a": 1.0}, TWO, {"a": 1.0, "b": 2.5, "c": 0.25}])
@pytest.mark.parametrize("vnodes", [16, ring.DEFAULT_VNODES])
def test_arcs_are_those_of_the_ring_and_fill_it(weights: dict[str, float], vnodes: int) -> None:
    found, expected = drawn(weights, vnodes=vnodes), built(weights, vnodes)
    assert [found.arcs[0].start, found.arcs[-1].end] == [0.0, 1.0]
    for one, other in zip(found.arcs, found.arcs[1:], strict=False):
        assert one.end == other.start
    shares = dict.fromkeys(weights, 0.0)
    for arc in found.arcs:
        shares[arc.owner] += arc.end - arc.start
    assert shares == pytest.approx(expected.shares())
    assert sum(shares.values()) == pytest.approx(1)


def test_keys_lie_in_arcs_of_their_owners() -> None:
    weights = {"a": 1.0, "b": 2.0}
    arcs, expected = drawn(weights, vnodes=16).arcs, built(weights, 16)
    for number in range(200):
        place = ring.token(f"k{number}") / (1 << 64)
        [owner] = {arc.owner for arc in arcs if arc.start < place <= arc.end}
        assert owner == expected.owner(f"k{number}").id


def test_share_that_moved_is_the_part_with_another_owner() -> None:
    flows = example["moved"](drawn(TWO), drawn(THREE))
    before, after = built(TWO).shares(), built(THREE).shares()
    assert set(flows) == {(one, "127.0.0.1:9002") for one in TWO}
    for (source, _), share in flows.items():
        assert share == pytest.approx(before[source] - after[source])
    assert sum(flows.values()) == pytest.approx(after["127.0.0.1:9002"])


def test_nothing_moves_between_equal_rings() -> None:
    assert example["moved"](drawn(THREE), drawn(THREE)) == {}


@pytest.mark.parametrize("weights", [{"a": 1.0}, TWO, {f"n{i}": 1.0 for i in range(12)}, {"<&>": 1.0, "x" * 64: 64.0}])
@pytest.mark.parametrize("vnodes", [16, 512])
def test_picture_is_xml_with_each_member_its_share_and_its_weight(weights: dict[str, float], vnodes: int) -> None:
    one = drawn(weights, vnodes=vnodes)
    for svg in (example["picture"]([one]), example["picture"]([drawn({"a": 1.0}, vnodes=vnodes), one])):
        found = texts(svg)
        shares = [float(text.removesuffix(" %")) for text in found if re.fullmatch(r"[0-9.]+ %", text)]
        assert sum(shares[-len(weights) :]) == pytest.approx(100, abs=0.05 * len(weights))
        assert shares[-len(weights) :] == [round(100 * share, 1) for share in built(weights, vnodes).shares().values()]
        assert [text for text in found if text.startswith("weight")][-len(weights) :] == [
            f"weight {weights[node]:g}" for node in sorted(weights)
        ]
        for node in weights:
            assert node in found or f"{node[:13]}…" in "".join(found)


def test_colours_of_a_picture_cover_as_much_of_the_circle_as_their_owners_own() -> None:
    seen = example["seen"](drawn(THREE).arcs)
    assert sum(arc.end - arc.start for arc in seen) == pytest.approx(1)
    for node, share in built(THREE).shares().items():
        assert sum(arc.end - arc.start for arc in seen if arc.owner == node) == pytest.approx(share, abs=0.06)


def test_member_that_joins_just_now_is_no_part_of_the_ring() -> None:
    joining = drawn(TWO | {"127.0.0.1:9002": 0.0})
    assert example["picture"]([joining]) == example["picture"]([drawn(TWO)])


@pytest.mark.parametrize("wrong", ["[]", "{}", json.dumps(answer(TWO, hash="md5")), json.dumps(answer(TWO, seed=1)), "x"])
def test_what_is_no_ring_is_told_in_a_line(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ring.json").write_text(wrong)
    monkeypatch.setattr("sys.argv", ["ring_picture.py", str(tmp_path / "ring.json")])
    assert example["main"]() == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)


def test_pictures_in_docs_are_what_is_drawn() -> None:
    before, after = drawn(TWO), drawn(THREE, epoch=5)
    assert (ROOT / "docs" / "ring-two.svg").read_text() == example["picture"]([before])
    assert (ROOT / "docs" / "ring-two-to-three.svg").read_text() == example["picture"]([before, after])
