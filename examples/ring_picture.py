#!/usr/bin/env python3
"""Draw the ring of a cluster, or two rings and what moves from one to the other, as an SVG.

    python examples/ring_picture.py http://127.0.0.1:8080 > ring.svg
    curl -s localhost:8080/v1/ring > before.json
    python examples/ring_picture.py before.json http://127.0.0.1:8080 > change.svg

Each argument is a proxy or node (`--token` where it asks for one), or a file with what its `/v1/ring` has answered. Everything
is computed from that, by the ring that gkv itself has: who owns which part of the ring, each member's share, and who has got
how much from whom. A colour is an owner. The circle is the whole ring; where it has more arcs than can be seen, it shows the
owner of every 1/720 of it, at its middle. The stripe below is a small part with all of its arcs; those that have another
owner now are underlined. With several copies the owner is the first node of a key's list.
"""

import argparse
import json
import sys
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import cos, pi, sin
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from gkv import ring
from gkv.model import Node
from gkv.ring import Ring

TOKENS = 1 << 64
STEPS = 720
"""Parts of the circle: one is 1.2 wide, so finer ones could not be told apart."""
MAGNIFIED = 80
"""Arcs in the stripe, about."""
LISTED = 12
"""Of the shares that have moved, the largest ones."""
LONGEST = 26
"""Letters of an id."""
WIDTH, HEIGHT = 440, 452
"""Of one picture, without the lines below it."""
RADIUS, BAND = 140, 44
LINE = 22
COLOURS = ("#3b7dc4", "#d9730d", "#2f9460", "#9159c7", "#d6455d", "#14919c", "#a3713f", "#c2509e")
"""Each has a contrast of 3 at least to both backgrounds."""
STYLE = """
svg{font:14px system-ui,sans-serif}
.paper{fill:#fff}text{fill:#1c1f24}.pale{fill:#59626e}.mark{fill:#1c1f24}
@media(prefers-color-scheme:dark){.paper{fill:#16181d}text{fill:#e8eaed}.pale{fill:#a4adb8}.mark{fill:#e8eaed}}
"""


@dataclass(frozen=True, slots=True)
class Arc:
    """A part of a ring with one owner, as fractions of the whole: behind `start`, up to `end`."""

    start: float
    end: float
    owner: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """A cluster's ring."""

    ring: Ring
    epoch: int
    copies: int

    @classmethod
    def of(cls, answer: Any) -> "Drawn":
        """Return the ring that an answer to /v1/ring is about. Raise ValueError for anything else."""
        if not isinstance(answer, dict) or answer.get("hash") != ring.HASH or answer.get("seed") != 0:
            raise ValueError(f"this is no answer of /v1/ring with the hash {ring.HASH}")
        # A member without a weight is no part of the ring: it joins just now, or has left.
        nodes = [Node(one["id"], one["url"], one["weight"]) for one in answer["nodes"] if one["weight"]]
        return cls(ring.build(nodes, answer["vnodes"]), answer["epoch"], answer["replicas"])

    @property
    def arcs(self) -> list[Arc]:
        """All arcs, from token 0 on."""
        owners = [self.ring.nodes[place].id for place in self.ring.owners]
        found, start = [], 0.0
        for token, owner in zip(self.ring.tokens, owners, strict=True):
            found.append(Arc(start, token / TOKENS, owner))
            start = token / TOKENS
        return [*found, Arc(start, 1.0, owners[0])]


def moved(before: Drawn, after: Drawn) -> dict[tuple[str, str], float]:
    """Return by two owners which share of the ring goes from the one to the other. O(tokens of both)."""
    found: defaultdict[tuple[str, str], float] = defaultdict(float)
    for one, other in _together(before.arcs, after.arcs):
        if one.owner != other.owner:
            found[one.owner, other.owner] += min(one.end, other.end) - max(one.start, other.start)
    return dict(sorted(found.items()))


def _together(before: Sequence[Arc], after: Sequence[Arc]) -> Iterator[tuple[Arc, Arc]]:
    """Yield each pair of arcs that have a part in common, ascending."""
    at = 0
    for arc in after:
        while before[at].end <= arc.start and at + 1 < len(before):
            at += 1
        place = at
        while place < len(before) and before[place].start < arc.end:
            yield before[place], arc
            place += 1


def seen(arcs: Sequence[Arc]) -> list[Arc]:
    """Return arcs that are wide enough to be seen: neighbours of one owner are one; of too many, an owner every 1/STEPS."""
    if len(arcs) > STEPS:
        sampled, at = [], 0
        for step in range(STEPS):
            while arcs[at].end < (step + 0.5) / STEPS:
                at += 1
            sampled.append(Arc(step / STEPS, (step + 1) / STEPS, arcs[at].owner))
        arcs = sampled
    joined: list[Arc] = []
    for arc in arcs:
        if joined and joined[-1].owner == arc.owner:
            joined[-1] = Arc(joined[-1].start, arc.end, arc.owner)
        else:
            joined.append(arc)
    return joined


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def _short(node_id: str) -> str:
    return node_id if len(node_id) <= LONGEST else f"{node_id[: LONGEST // 2]}…{node_id[-LONGEST // 2 + 1 :]}"


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}"{more}>{escape(text)}</text>'


def _circle(arcs: Iterable[Arc], colours: dict[str, str]) -> Iterator[str]:
    """Yield a path for each owner: its arcs, round the middle, from the top on clockwise."""

    def point(part: float) -> str:
        return f"{RADIUS * sin(2 * pi * part):.1f} {-RADIUS * cos(2 * pi * part):.1f}"

    paths: defaultdict[str, list[str]] = defaultdict(list)
    for arc in seen([*arcs]):
        ends = [arc.start, arc.end] if arc.end - arc.start < 0.5 else [arc.start, (arc.start + arc.end) / 2, arc.end]
        line = [f"A{RADIUS} {RADIUS} 0 0 1 {point(end)}" for end in ends[1:]]
        paths[arc.owner].append(f"M{point(arc.start)}{''.join(line)}")
    for owner, parts in sorted(paths.items()):
        yield f'<path d="{"".join(parts)}" fill="none" stroke="{colours[owner]}" stroke-width="{BAND}"/>'


def _stripe(drawn: Drawn, before: Drawn | None, zoom: int, colours: dict[str, str]) -> Iterator[str]:
    """Yield the first 1/zoom of a ring as a stripe, and marks under what has another owner than before."""
    left, width = 30, WIDTH - 60

    def box(start: float, end: float, y: int, height: int, more: str) -> str:
        x, right = left + start * zoom * width, left + min(end * zoom, 1) * width
        return f'<rect x="{x:.1f}" y="{y}" width="{right - x:.1f}" height="{height}" {more}/>'

    for arc in drawn.arcs:
        if arc.start * zoom < 1:
            yield box(arc.start, arc.end, 0, 30, f'fill="{colours[arc.owner]}"')
    for one, other in _together(before.arcs, drawn.arcs) if before is not None else ():
        start, end = max(one.start, other.start), min(one.end, other.end)
        if one.owner != other.owner and start * zoom < 1:
            yield box(start, end, 33, 3, 'class="mark"')


def _panel(drawn: Drawn, before: Drawn | None, title: str, zoom: int, colours: dict[str, str]) -> Iterator[str]:
    """Yield one ring: its title, circle, stripe, and a line for each member."""
    middle = ' text-anchor="middle"'
    yield _text(WIDTH / 2, 28, title, f'{middle} font-weight="600"')
    yield f'<g transform="translate({WIDTH / 2:g} 212)">'
    yield from _circle(drawn.arcs, colours)
    arcs = f"{len(drawn.ring.tokens):,} arcs".replace(",", " ")
    yield _text(0, -14, f"epoch {drawn.epoch}", middle)
    yield _text(0, 8, arcs, middle)
    yield _text(0, 30, "1 copy" if drawn.copies == 1 else f"{drawn.copies} copies", middle)
    yield '</g><g transform="translate(0 384)">'
    yield from _stripe(drawn, before, zoom, colours)
    what = "the ring" if zoom == 1 else f"1/{zoom} of the ring"
    yield _text(30, 54, f"{what}, from the top on{'; underlined: has moved' if before else ''}", ' class="pale" font-size="12"')
    yield "</g>"
    shares = drawn.ring.shares()
    for number, node in enumerate(drawn.ring.nodes):
        y = HEIGHT + 16 + number * LINE
        yield f'<rect x="30" y="{y - 11}" width="13" height="13" fill="{colours[node.id]}"/>'
        yield _text(52, y, _short(node.id))
        yield _text(WIDTH - 120, y, _percent(shares[node.id]), ' text-anchor="end"')
        yield _text(WIDTH - 30, y, f"weight {node.weight:g}", ' text-anchor="end" class="pale"')


def _told(flows: dict[tuple[str, str], float]) -> Iterator[str]:
    """Yield what has moved, in words."""
    share = sum(flows.values())
    yield f"{_percent(share)} of the ring has another owner now, {_percent(1 - share)} stays where it is"
    largest = sorted(flows, key=lambda pair: -flows[pair])[:LISTED]
    for source, to in sorted(largest):
        yield f"{_percent(flows[source, to])} went from {_short(source)} to {_short(to)}"
    if len(flows) > LISTED:
        yield f"and smaller parts between {len(flows) - LISTED} other pairs of members"


def picture(drawn: Sequence[Drawn]) -> str:
    """Return the SVG of one ring, or of one before and one after a change."""
    ids = sorted({node.id for one in drawn for node in one.ring.nodes})
    colours = {one: _colour(place) for place, one in enumerate(ids)}
    zoom = max(1, max(len(one.ring.tokens) for one in drawn) // MAGNIFIED)
    titles = ["The ring"] if len(drawn) == 1 else ["before", "after"]
    lines = [*_told(moved(*drawn))] if len(drawn) > 1 else []
    members = max(len(one.ring.nodes) for one in drawn)
    width, below = WIDTH * len(drawn), HEIGHT + 16 + members * LINE
    height = below + (len(lines) * LINE + 16 if lines else 0)
    shown = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
        f"<title>{escape(lines[0] if lines else 'who owns which part of the ring')}</title><style>{STYLE}</style>",
        f'<rect class="paper" width="{width}" height="{height}"/>',
    ]
    for place, one in enumerate(drawn):
        shown.append(f'<g transform="translate({place * WIDTH} 0)">')
        shown += _panel(one, drawn[0] if place else None, titles[place], zoom, colours)
        shown.append("</g>")
    shown += [_text(width / 2, below + 8 + n * LINE, line, ' text-anchor="middle"') for n, line in enumerate(lines)]
    return "\n".join([*shown, "</svg>"]) + "\n"


def _colour(place: int) -> str:
    """Return a colour that no other place has, though beyond the first ones some are much alike."""
    return COLOURS[place] if place < len(COLOURS) else f"hsl({place * 137.508 % 360:.0f},55%,48%)"


def read(where: str, token: str = "") -> Drawn:
    """Return the ring of a proxy or node, or of a file. Raise OSError, or ValueError if that has none."""
    if not where.startswith(("http://", "https://")):
        return Drawn.of(json.loads(Path(where).read_text(encoding="utf-8")))
    asked = urllib.request.Request(f"{where.rstrip('/')}/v1/ring")  # noqa: S310  # its scheme was looked at
    if token:
        asked.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310  # likewise
        return Drawn.of(json.load(answer))


def main() -> int:
    """Write the picture to standard output; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("ring", nargs="+", metavar="URL|FILE", help="one ring, or the one before and the one after a change")
    parser.add_argument("--token", default="", help="of a reader, where the cluster asks for one")
    options = parser.parse_args()
    if len(options.ring) > 2:
        parser.error("one ring, or two")
    try:
        drawn = [read(where, options.token) for where in options.ring]
    except (OSError, ValueError, KeyError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    sys.stdout.write(picture(drawn))
    return 0


if __name__ == "__main__":
    sys.exit(main())
