"""Draws the pictures of docs/concepts.md: `python docs/pictures.py` writes them beside itself.

The two of rings are of real rings, with few tokens so that they can be seen. A test holds the files against this program.
"""

from collections.abc import Sequence
from math import cos, pi, sin
from pathlib import Path
from xml.sax.saxutils import escape

from gkv import ring
from gkv.model import Node
from gkv.ring import Ring

COLOURS = {"n1": "#3b7dc4", "n2": "#d9730d", "n3": "#2f9460", "n4": "#9159c7"}
"""Each has a contrast of 3 at least to both backgrounds."""
STYLE = """svg{font:14px system-ui,sans-serif}
.paper{fill:#fff}text{fill:#1c1f24}.pale{fill:#59626e}.ink{stroke:#1c1f24;fill:none}.tip{fill:#1c1f24}
.bad{fill:#c22f3d}.band{fill:#ccd3dc}
@media(prefers-color-scheme:dark){.paper{fill:#16181d}text{fill:#e8eaed}.pale{fill:#a4adb8}.ink{stroke:#e8eaed}.tip{fill:#e8eaed}
.bad{fill:#ff8087}.band{fill:#48505c}}"""
VNODES = 16
"""The least that a ring takes."""
LANE = 150
"""Between the lanes of a sequence."""


class Picture:
    """An SVG in the making."""

    def __init__(self, width: int, height: int, title: str) -> None:
        """`title` is also for those who do not see it."""
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">',
            f"<title>{escape(title)}</title><style>{STYLE}</style>",
            f'<rect class="paper" width="{width}" height="{height}"/>',
        ]

    def text(self, x: float, y: float, words: str, *, kind: str = "", anchor: str = "middle", bold: bool = False) -> None:
        weight = ' font-weight="bold"' if bold else ""
        where = f'x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"'
        self._parts.append(f'<text class="{kind}" {where}{weight}>{escape(words)}</text>')

    def line(self, points: Sequence[tuple[float, float]], *, dashed: bool = False, width: float = 1.5) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashes = ' stroke-dasharray="4 4"' if dashed else ""
        self._parts.append(f'<polyline class="ink" points="{path}" stroke-width="{width}"{dashes}/>')

    def arrow(self, x1: float, x2: float, y: float, words: str, *, dashed: bool = False) -> None:
        """Draw a level arrow with words above it."""
        back = 8 if x2 < x1 else -8
        self.line([(x1, y), (x2, y)], dashed=dashed)
        self._parts.append(f'<path class="tip" d="M{x2} {y}l{back} -4v8z"/>')
        self.text(min(x1, x2) + LANE / 2, y - 5, words)  # between the first two of the lanes that it crosses

    def arc(self, centre: tuple[float, float], radius: float, part: tuple[float, float], colour: str, band: float) -> None:
        """Draw a part of a circle, between two fractions of it."""
        x1, y1 = on_circle(centre, radius, part[0])
        x2, y2 = on_circle(centre, radius, part[1])
        large = int(part[1] - part[0] > 0.5)
        self._parts.append(
            f'<path d="M{x1:.1f} {y1:.1f}A{radius} {radius} 0 {large} 1 {x2:.1f} {y2:.1f}" fill="none" stroke="{colour}" '
            f'stroke-width="{band}"/>'
        )

    def box(self, at: tuple[float, float], size: tuple[float, float], colour: str = "") -> None:
        """Draw a box in a colour, by default a pale one."""
        fill = f'fill="{colour}"' if colour else 'class="band"'
        self._parts.append(
            f'<rect x="{at[0]:.0f}" y="{at[1]:.0f}" width="{size[0]:.0f}" height="{size[1]:.0f}" {fill} rx="3"/>'
        )

    def whole(self) -> str:
        return "\n".join([*self._parts, "</svg>", ""])


def on_circle(centre: tuple[float, float], radius: float, part: float) -> tuple[float, float]:
    """Return the point at a fraction of a circle, clockwise from the top."""
    angle = 2 * pi * part - pi / 2
    return centre[0] + radius * cos(angle), centre[1] + radius * sin(angle)


def ring_of(ids: str) -> Ring:
    return ring.build([Node(one) for one in ids.split()], VNODES)


def place(token: int) -> float:
    return token / 2**64


def draw_ring(picture: Picture, shown: Ring, centre: tuple[float, float], radius: float) -> None:
    """Draw who answers for which part of a ring, and the tokens between the parts."""
    tokens = [place(token) for token in shown.tokens]
    names = [shown.nodes[owner].id for owner in shown.owners]
    for begin, end, name in zip([tokens[-1] - 1, *tokens], tokens, names, strict=False):
        picture.arc(centre, radius, (begin, end), COLOURS[name], 26)
        picture.line([on_circle(centre, radius - 13, end), on_circle(centre, radius + 13, end)], width=1)
    for at, (name, share) in enumerate(shown.shares().items()):
        y = centre[1] - 12 * len(shown.nodes) + 24 * at
        picture.box((centre[0] - 58, y), (14, 14), COLOURS[name])
        picture.text(centre[0] - 36, y + 12, f"{name}: {share:.0%} of keys", anchor="start")


def the_ring() -> str:
    shown = ring_of("n1 n2 n3 n4")
    picture = Picture(760, 380, "A ring of four nodes, and the preference list of a key")
    centre, radius = (190, 190), 140
    draw_ring(picture, shown, centre, radius)
    x, y = on_circle(centre, radius + 15, place(shown.token("hi")))
    outside = on_circle(centre, radius + 34, place(shown.token("hi")))
    picture.line([(x, y), outside], width=3)
    picture.text(outside[0], outside[1] + 12, "hi", bold=True)
    clockwise = [node.id for node in shown.preference("hi", 3)]
    lines = (
        "A key's hash is its place on the ring.",
        "Clockwise from there, the first node is its owner,",
        "and the first three that differ are its",
        "preference list: where its copies are.",
    )
    for at, words in enumerate(lines):
        picture.text(400, 90 + 22 * at, words, anchor="start")
    for at, name in enumerate(clockwise):
        picture.box((400, 190 + 30 * at), (20, 20), COLOURS[name])
        role = "primary: orders writes, answers reads" if at == 0 else "a copy; takes over if those before it go"
        picture.text(428, 205 + 30 * at, f"{name}  {role}", anchor="start")
    picture.text(400, 300, "A node has 16 tokens here, 4,096 as a rule,", kind="pale", anchor="start")
    picture.text(400, 320, "so that shares come out even.", kind="pale", anchor="start")
    return picture.whole()


def a_change() -> str:
    before, after = ring_of("n1 n2 n3"), ring_of("n1 n2 n3 n4")
    picture = Picture(760, 430, "The ring before and after n4 joins")
    for x, words, shown in ((190, "before", before), (570, "after", after)):
        picture.text(x, 24, words, bold=True)
        draw_ring(picture, shown, (x, 190), 130)
    moved = after.shares()["n4"]
    picture.text(380, 380, f"What n4 answers for, {moved:.0%} here and a quarter with 4,096 tokens, is all that moves.")
    picture.text(380, 404, "No key goes from one of the others to another of them.", kind="pale")
    return picture.whole()


def lanes(picture: Picture, names: Sequence[str], bottom: float) -> list[float]:
    """Draw the lanes of a sequence, and return where they are."""
    at = [80.0 + LANE * number for number in range(len(names))]
    for x, name in zip(at, names, strict=True):
        picture.text(x, 24, name, bold=True)
        picture.line([(x, 34), (x, bottom)], dashed=True, width=1)
    return at


def a_write_and_a_read() -> str:
    picture = Picture(760, 420, "A write and a read of a key with three copies")
    client, proxy, one, two, three = lanes(picture, ("client", "proxy", "n1 (primary)", "n2", "n3"), 410)
    picture.arrow(client, proxy, 60, "PUT hi")
    picture.arrow(proxy, one, 85, "write")
    picture.text(one + 8, 106, "gives it a version", kind="pale", anchor="start")
    picture.arrow(one, two, 130, "copy")
    picture.arrow(one, three, 155, "copy")
    for x in (one, two, three):
        picture.box((x - 34, 166), (68, 22))
        picture.text(x, 182, "fsync")
    picture.arrow(two, one, 212, "has it", dashed=True)
    picture.arrow(three, one, 237, "has it", dashed=True)
    picture.arrow(one, proxy, 262, "done", dashed=True)
    picture.arrow(proxy, client, 287, "204", dashed=True)
    picture.arrow(client, proxy, 330, "GET hi")
    picture.arrow(proxy, one, 350, "read")
    picture.text(one + 8, 354, "has leases of", kind="pale", anchor="start")
    picture.text(one + 8, 372, "n2 and n3", kind="pale", anchor="start")
    picture.arrow(one, proxy, 380, "value", dashed=True)
    picture.arrow(proxy, client, 400, "200", dashed=True)
    return picture.whole()


def a_failover() -> str:
    picture = Picture(760, 400, "A failover: n1 ends without a word, and n2 takes over")
    rows = ("n1", "n2", "n3", "proxy", "clients")
    start, scale = 100, 410  # of the time axis, and pixels a second
    for at, name in enumerate(rows):
        picture.text(20, 75 + 56 * at, name, anchor="start", bold=True)
    edge = start + 0.2 * scale
    over = edge + 1.05 * scale
    picture.box((start, 58), (edge - start, 26), COLOURS["n1"])
    picture.text((start + edge) / 2, 76, "primary")
    picture.text(edge + 8, 76, "gone", kind="bad", anchor="start")
    picture.box((start, 114), (over - start, 26))
    picture.text((start + over) / 2, 132, "has the copies; waits until what it has granted to n1 runs out")
    picture.box((over, 114), (740 - over, 26), COLOURS["n2"])
    picture.text((over + 740) / 2, 132, "primary")
    picture.box((start, 170), (740 - start, 26))
    picture.text((start + 740) / 2, 188, "has the copies; tells n2 what was under way")
    notices = edge + 0.62 * scale
    picture.box((notices, 226), (170, 26))
    picture.text(notices + 85, 244, "n1 is down: epoch + 1")
    picture.text(notices - 8, 244, "hears nothing, asks the others", kind="pale", anchor="end")
    picture.box((edge, 282), (over - edge, 26))
    picture.text((edge + over) / 2, 300, "calls for keys of n1 wait; others go on")
    picture.text((over + 740) / 2, 300, "answered")
    picture.line([(start, 340), (740, 340)])
    for seconds in (0.0, 0.5, 1.0):
        x = edge + seconds * scale
        picture.line([(x, 335), (x, 345)])
        picture.text(x, 364, f"{seconds} s")
    picture.text(380, 390, "A write that was already with n1 is indeterminate. Keys of other primaries go on.")
    return picture.whole()


PICTURES = {
    "ring.svg": the_ring,
    "ring-change.svg": a_change,
    "write-read.svg": a_write_and_a_read,
    "failover.svg": a_failover,
}

if __name__ == "__main__":
    for file, draw in PICTURES.items():
        Path(__file__).with_name(f"concepts-{file}").write_text(draw(), encoding="utf-8")
