"""The figures of a run: how they are collected over the rounds, compared, and written as a table."""

import statistics
import sys
import time
from dataclasses import dataclass, field

# How each unit is written; the first part is what the value is divided by.
UNITS = {
    "rows/s": (1e6, "{:.2f}", " M rows/s"),
    "1/s": (1, "{:,.0f}", "/s"),
    "ms": (1, "{:.2f}", " ms"),
    "s": (1, "{:.2f}", " s"),
    "MB": (1, "{:,.0f}", " MB"),
    "KB": (1, "{:,.0f}", " KB"),
    "x": (1, "{:.2f}", ""),
}


def spread(values, unit):
    """The median, and in parentheses the lowest and the highest if there are several."""
    divisor, text, name = UNITS[unit]
    show = lambda value: text.format(value / divisor)
    if len(values) == 1:
        return show(values[0]) + name
    return f"{show(statistics.median(values))} ({show(min(values))}-{show(max(values))}){name}"


@dataclass
class Figures:
    """One value for each name and round."""

    values: dict = field(default_factory=dict)

    def add(self, name, value):
        self.values.setdefault(name, []).append(value)

    def __getitem__(self, name):
        return self.values[name]


@dataclass
class Line:
    """One line of the table. All but `is_met` is text; that is None where there is no bar."""

    row: str
    what: str
    ours: str = ""
    peer: str = ""
    theirs: str = ""
    ratio: str = ""
    bar: str = ""
    goal: str = ""
    met: str = ""


def verdict(bar, goal):
    """What the last column says; each is True, False, or None for one that was not set."""
    if bar is None and goal is None:
        return "for the record"
    if bar is False:
        return "**no**"
    return "bar and goal" if bar and goal else "goal" if goal else "bar" if bar else "not the goal"


def compared(row, what, figures, ours, theirs, peer, unit, bar=None, goal=None, lower=False):
    """Our figure beside a peer's. With `lower`, less is better: the ratio may then be at most the bar."""
    ratios = [one / other for one, other in zip(figures[ours], figures[theirs], strict=True)]
    ratio, sign = statistics.median(ratios), "≤ " if lower else "≥ "
    reached = lambda limit: None if limit is None else ratio <= limit if lower else ratio >= limit
    show = lambda limit: "" if limit is None else f"{sign}{limit:g}x"
    texts = spread(figures[ours], unit), peer, spread(figures[theirs], unit), spread(ratios, "x")
    return Line(row, what, *texts, show(bar), show(goal), verdict(reached(bar), reached(goal)))


def limited(row, what, values, unit, bar=None, goal=None, lower=False, peer=""):
    """Our figure beside a fixed one."""
    divisor, text, name = UNITS[unit]
    value, sign = statistics.median(values), "≤ " if lower else "≥ "
    reached = lambda limit: None if limit is None else value <= limit if lower else value >= limit
    show = lambda limit: "" if limit is None else f"{sign}{text.format(limit / divisor)}{name}"
    return Line(row, what, spread(values, unit), peer, "", "", show(bar), show(goal), verdict(reached(bar), reached(goal)))


def exact(row, what, found, expected):
    """A number that must be right."""
    return Line(row, what, f"{found:,}", "", "", "", f"= {expected:,}", "", verdict(found == expected, None))


def skipped(row, what, reason):
    return Line(row, what, met=f"skipped: {reason}")


def in_rounds(rounds, sides, name):
    """Does every side once a round, forwards and backwards in turn, so that what else the machine does hits all of them."""
    for turn in range(rounds):
        started = time.perf_counter()
        for side in sides if turn % 2 == 0 else reversed(sides):
            side()
        took = time.perf_counter() - started
        print(f"{time.strftime('%H:%M:%S')} {name}: round {turn + 1} of {rounds}, {took:.0f} s", file=sys.stderr)


def table(lines):
    """The lines in Markdown."""
    head = ("row", "what", "Merganser", "peer", "its figure", "ratio", "bar", "goal", "met")
    cells = [[line.row, line.what, line.ours, line.peer, line.theirs, line.ratio, line.bar, line.goal, line.met] for line in lines]
    escaped = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in cells]
    rule = ["---", "---", "--:", "---", "--:", "--:", "--:", "--:", "---"]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *escaped])
