"""A progress bar on the terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from merganser._mixpanel.tally import Tally


class Bar:
    """Shows a tally while it is entered; nothing where nobody looks."""

    def __init__(self, title: str, parts: str, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{parts} · {{task.fields[rows]}} rows · {{task.fields[rate]}}/s ·"),
            TimeElapsedColumn(),
            TextColumn("[yellow]{task.fields[note]}"),
            console=console,
            disable=not (console.is_terminal or console.is_jupyter),
        )
        self._task = self._progress.add_task(title, total=None, rows="0", rate="0", note="")

    def __enter__(self) -> Bar:
        if not self._progress.disable:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if not self._progress.disable:
            # Older ones of rich end the line even where there is none.
            self._progress.stop()

    def update(self, tally: Tally) -> None:
        """Shows how far it is."""
        elapsed = self._progress.tasks[0].elapsed or 0.0
        note = f"{tally.retries} retries; last: {tally.last_retry}" if tally.retries else ""
        self._progress.update(
            self._task,
            total=tally.parts or None,
            completed=tally.parts_done,
            rows=f"{tally.rows:,}",
            rate=f"{tally.rows / elapsed if elapsed else 0:,.0f}",
            # What Mixpanel says is not markup.
            note=note.replace("[", r"\["),
        )
