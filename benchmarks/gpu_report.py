"""What gpu.py measured, as Markdown."""

from __future__ import annotations

from typing import Any


def as_text(report: dict[str, Any]) -> str:
    """The tables of a report as gpu.py writes it to results.json: accuracy, kernel, requests, training."""
    lines = [
        f"# {report['device']}, {report['backend']}, Triton {report['triton']}",
        "",
        "| accuracy | error | bound | |",
        "|---|---|---|---|",
    ]
    for row in report["accuracy"]:
        verdict = "within" if row["error"] <= row["bound"] else "FAILED" if row["promised"] else "above, not promised"
        lines.append(f"| {row['case']} | {row['error']:.2g} | {row['bound']:g} | {verdict} |")
    lines += ["", "| kernel | | call, us | 10% to 90% | on the device, us | roofline |", "|---|---|---|---|---|---|"]
    for row in report.get("kernel", ()):
        if "absent" in row:
            lines.append(f"| {row['case']} | {row['name']} | did not run: {row['absent']} | | | |")
            continue
        share = "" if row["roofline_percent"] is None else f"{row['roofline_percent']:.1f}%"
        busy = "" if row["device_us"] is None else f"{row['device_us']:.1f}"
        spread = f"{row['p10_us']:.1f} to {row['p90_us']:.1f}"
        lines.append(f"| {row['case']} | {row['name']} | {row['median_us']:.1f} | {spread} | {busy} | {share} |")
    lines += ["", "| requests | | median, ms a request | 10% to 90% |", "|---|---|---|---|"]
    for row in report.get("requests", ()):
        median, low, high = (1e3 * row[key] / row["requests"] for key in ("median_s", "p10_s", "p90_s"))
        lines.append(f"| {row['case']} | {row['name']} | {median:.3f} | {low:.3f} to {high:.3f} |")
    lines += ["", "| step of training | | median, ms | 10% to 90% |", "|---|---|---|---|"]
    for row in report.get("training", ()):
        spread = f"{row['p10_ms']:.2f} to {row['p90_ms']:.2f}"
        lines.append(f"| {row['case']} | {row['name']} | {row['median_ms']:.2f} | {spread} |")
    return "\n".join(lines) + "\n"
