"""The tables of a report, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from din_infer.bench.calls import Call
    from din_infer.bench.peers.peer import Absent
    from din_infer.bench.report import Row
    from din_infer.bench.scaling import Length, Memory


def three_digits(value: float) -> str:
    """4.00, 0.123, 604."""
    return f"{value:#.3g}".rstrip(".") if value < 1000 else f"{value:.0f}"


def duration(ms: float) -> str:
    """In milliseconds, or microseconds where those are fewer than one."""
    return f"{three_digits(ms)} ms" if ms >= 1 else f"{three_digits(1000 * ms)} us"


def rich_table(table: Sequence[Row], title: str) -> Any:
    """Medians with their spread, and each time divided by this runtime's on the same model."""
    view = _table(title, "", "median", "p10 - p90", "x ours", "max diff")
    rates = bool(table) and table[0].gflops is not None
    for name in ("GFLOP/s", "% peak") if rates else ():
        view.add_column(name, justify="right", no_wrap=True)
    for case in dict.fromkeys(row.case for row in table):
        view.add_section()
        if len({row.case for row in table}) > 1:
            view.add_row(f"[bold]{case}[/bold]")
        for row in (row for row in table if row.case == case):
            unit = 1.0 if row.median_ms >= 1 else 1000.0
            cells = [
                row.name,
                duration(row.median_ms),
                f"{three_digits(unit * row.p10_ms)} - {three_digits(unit * row.p90_ms)}",
                f"{row.times_ours:.2f}" if row.versus else "",
                f"{row.max_difference:.1e}" if row.versus else "",
            ]
            rate = [row.gflops, row.peak_percent] if rates else []
            view.add_row(*cells, *("" if value is None else f"{value:.1f}" for value in rate))
    return view


def lengths_table(lengths: Sequence[Length]) -> Any:
    """Time per pair, and how that of each length compares with that of the shortest."""
    title = f"Time per pair, {lengths[0].candidates} candidates"
    view = _table(title, "behaviours", "ns per pair", "p10 - p90", "x first")
    for length in lengths:
        view.add_row(
            f"{length.behaviours:,}",
            three_digits(length.ns_per_pair),
            f"{three_digits(length.p10)} - {three_digits(length.p90)}",
            f"{length.ns_per_pair / lengths[0].ns_per_pair:.2f}",
        )
    return view


def memory_table(memory: Sequence[Memory]) -> Any:
    view = _table("Memory of a call at its peak, MB", "candidates x behaviours", "a call", "one [N, T, H] array")
    for case in memory:
        view.add_row(
            f"{case.candidates:,} x {case.behaviours:,}",
            three_digits(case.call_bytes / 1e6),
            three_digits(case.unfused_bytes / 1e6),
        )
    return view


def calls_table(calls: Sequence[Call]) -> Any:
    view = _table("Calls from Python, us", "", "whole call", "in the core", "beyond it")
    for call in calls:
        times = (call.call_us, call.core_us, call.overhead_us)
        view.add_row(f"{call.name}, {call.case}", *(f"{time:.1f}" for time in times))
    return view


def absent_lines(absent: Sequence[Absent]) -> list[str]:
    """Markup: which peers took no part, and why."""
    from rich.markup import escape

    return [f"[yellow]absent:[/yellow] {escape(f'{peer.name}: {peer.reason}')}" for peer in absent]


def _table(title: str, first: str, *columns: str) -> Any:
    from rich import box
    from rich.table import Table

    view = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    view.add_column(first)
    for name in columns:
        view.add_column(name, justify="right", no_wrap=True)
    return view
