"""What the runs say: medians, the targets, and a picture."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

WEBDIS_TARGETS = {("get", 1): 0.5, ("get", 10): 0.8, ("get", 100): 1.6, ("set", 1): 0.45}
"""CPU per request, webdis and Redis against gkv: at least this."""

GO_TARGETS = {1: 2.0, 10: 3.0, 100: 7.0}
GO_THEN = {
    ("get", 1): 140, ("get", 10): 299, ("get", 100): 1276,
    ("set", 1): 123, ("set", 10): 289, ("set", 100): 1054,
}  # fmt: skip
"""CPU us per request of the original in Go, by operation and keys per request, measured once on another machine."""
WEBDIS_THEN = {1: 31, 10: 60, 100: 277}
"""Those of gets from webdis and Redis, on that machine; how they compare with today's scales the original's."""

MAX_OTHERS = 0.2
"""Cores that other work may keep busy during a run. More of it costs the servers their caches and their turn."""

MAX_P99 = 4.0
"""Times p50."""

MAX_LMDB = 1.4
"""CPU per get with records on disk, against records in memory."""

MAX_METRICS = 1.05
MAX_TLS = 1.25
"""CPU per request: with metrics against without, and with tokens and TLS on kept-alive connections against without."""

Case = tuple[str, int]
"""An operation, and the keys per request."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of wrk against one system."""

    round: int
    system: str
    op: str
    n: int
    requests: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: dict[str, float]
    """Per request, by the role of the process."""
    cpu_us_total: float
    bytes_per_request: float
    others: float
    """Cores that were busy with neither the servers nor wrk."""
    non_2xx: int
    socket_errors: int
    valid: bool

    @property
    def disturbed(self) -> bool:
        return self.others > MAX_OTHERS

    def __str__(self) -> str:
        processes = " + ".join(f"{role} {us:.1f}" for role, us in self.cpu_us.items())
        disturbed = f"  disturbed: {self.others:.1f} cores busy with other work" if self.disturbed else ""
        invalid = "" if self.valid else f"  INVALID: {self.non_2xx} not 2xx, {self.socket_errors} socket errors"
        return (
            f"{self.round:>5}  {self.system:11}  {self.op} {self.n:>4}  {self.requests_per_second:>8.0f}/s"
            f"  p50 {self.p50_ms:7.2f} ms  p99 {self.p99_ms:7.2f} ms"
            f"  {self.cpu_us_total:>7.1f} us = {processes}{disturbed}{invalid}"
        )


@dataclass(frozen=True, slots=True)
class Median:
    """The medians over the rounds of one case and one system."""

    system: str
    op: str
    n: int
    rounds: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us_total: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """A comparison; without a target it is there to be read."""

    what: str
    op: str
    n: int
    figure: float
    target: float | None
    met: bool | None
    at_most: bool = False


def medians(runs: Iterable[Run]) -> list[Median]:
    """Return the medians of all valid runs, in the order in which systems and cases first appear."""
    groups: dict[tuple[str, int, str], list[Run]] = {}
    for run in runs:
        if run.valid:
            groups.setdefault((run.op, run.n, run.system), []).append(run)
    return [
        Median(
            system,
            op,
            n,
            len(group),
            median(run.requests_per_second for run in group),
            median(run.p50_ms for run in group),
            median(run.p99_ms for run in group),
            median(run.cpu_us_total for run in group),
        )
        for (op, n, system), group in groups.items()
    ]


def verdicts(rows: Sequence[Median]) -> list[Verdict]:
    """Compare gkv with the others and with the targets, as far as there are figures."""
    by = {(row.system, row.op, row.n): row for row in rows}
    found = []
    for row in rows:
        if row.system != "gkv":
            continue
        case = row.op, row.n
        for peer in ("webdis", "plain"):
            if (peer, *case) in by:
                target = WEBDIS_TARGETS.get(case) if peer == "webdis" else None
                found.append(_at_least(f"{peer} / gkv, CPU", case, by[peer, *case].cpu_us_total / row.cpu_us_total, target))
        webdis_now = by.get(("webdis", "get", row.n))
        if webdis_now is not None and case in GO_THEN:
            go_now = GO_THEN[case] * webdis_now.cpu_us_total / WEBDIS_THEN[row.n]
            found.append(_at_least("Go, scaled / gkv, CPU", case, go_now / row.cpu_us_total, GO_TARGETS[row.n]))
        spread = row.p99_ms / row.p50_ms
        found.append(_at_most("gkv, p99 / p50", case, spread, MAX_P99))
        bare, tls = by.get(("gkv-bare", *case)), by.get(("gkv-tls", *case))
        if bare is not None:
            found.append(_at_most("gkv / gkv-bare, CPU", case, row.cpu_us_total / bare.cpu_us_total, MAX_METRICS))
        if tls is not None:
            found.append(_at_most("gkv-tls / gkv, CPU", case, tls.cpu_us_total / row.cpu_us_total, MAX_TLS))
        durable = by.get(("gkv-lmdb", *case))
        if durable is not None:
            found.append(
                _at_most(
                    "gkv-lmdb / gkv, CPU", case, durable.cpu_us_total / row.cpu_us_total, MAX_LMDB if row.op == "get" else None
                )
            )
    for (system, op, n), row in by.items():
        peer = by.get(("webdis-sync", op, n))
        if system == "gkv-lmdb" and op == "set" and peer is not None:
            rate = row.requests_per_second / peer.requests_per_second
            found.append(_at_least("gkv-lmdb / webdis-sync, rate", (op, n), rate, 1.0 if n == 1 else None))
    return found


def _at_most(what: str, case: Case, figure: float, target: float | None) -> Verdict:
    return Verdict(what, *case, figure, target, None if target is None else figure <= target, at_most=True)


def _at_least(what: str, case: Case, figure: float, target: float | None) -> Verdict:
    return Verdict(what, *case, figure, target, None if target is None else figure >= target)


def table(rows: Sequence[Median], found: Sequence[Verdict]) -> str:
    """Return both as text."""
    lines = [
        "",
        "medians",
        f"{'op':4}{'N':>5}  {'system':12}{'CPU us':>9}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'rounds':>8}",
    ]
    lines += [
        f"{row.op:4}{row.n:>5}  {row.system:12}{row.cpu_us_total:>9.1f}{row.requests_per_second:>12.0f}"
        f"{row.p50_ms:>9.2f}{row.p99_ms:>9.2f}{row.rounds:>8}"
        for row in rows
    ]
    if found:
        lines += ["", "ratios", f"{'op':4}{'N':>5}  {'what':30}{'ratio':>7}  target"]
    for verdict in found:
        target = ""
        if verdict.target is not None:
            bound = "<=" if verdict.at_most else ">="
            target = f"{bound} {verdict.target:<5g} {'met' if verdict.met else 'MISSED'}"
        lines.append(f"{verdict.op:4}{verdict.n:>5}  {verdict.what:30}{verdict.figure:>7.2f}  {target}".rstrip())
    if any(verdict.what.startswith("Go") for verdict in found):
        lines += [
            "",
            "The Go original was not measured here: its figures are older, and scaled by those of webdis then and now.",
        ]
    return "\n".join(lines)


def draw(rows: Sequence[Median], title: str, path: str) -> None:
    """Write a picture: for each case a group of bars, one for each system."""
    import pygal  # of the extra "bench"; nothing else here needs it

    by = {(row.system, row.op, row.n): row.cpu_us_total for row in rows}
    cases = list(dict.fromkeys((row.op, row.n) for row in rows))
    # js: the scripts for tooltips would be fetched from the network. Logarithmic: the figures go from 20 to 1,000.
    chart = pygal.Bar(
        title=f"CPU us per request, all server processes\n{title}",
        x_title="operation and keys per request",
        logarithmic=True,
        zero=10,  # or the bars would start at the least figure, and that one would have no height
        range=(10, 2 * max(by.values(), default=1_000)),
        y_labels=[10, 30, 100, 300, 1_000, 3_000],
        print_values=True,
        value_formatter=lambda us: f"{us:.0f}",
        js=(),
        legend_at_bottom=True,
        width=1000,
        height=560,
    )
    chart.x_labels = [f"{op} {n}" for op, n in cases]
    for system in dict.fromkeys(row.system for row in rows):
        chart.add(system, [by.get((system, *case)) for case in cases])
    chart.render_to_file(path)
