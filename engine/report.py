"""What the verbs print for people: tables and lines, cleaned of control sequences, a dash for what is not known."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.text import cells, clean

GLYPHS = {
    "queued": "○", "starting": "◔", "running": "●", "stopping": "◑", "finished": "✓", "stopped": "■", "failed": "✗",
    "crashed": "!", "oom": "▲",
}  # fmt: skip


def number(value: Any, digits: int = 3) -> str:
    """A measured value, or a dash. Texts such as nan stay."""
    if value is None:
        return "–"
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.{digits}f}" if value == 0 or abs(value) >= 10**-digits else f"{value:.1e}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: `41 s`, `33 min`, `2.4 h`, `3.1 d`."""
    if seconds is None:
        return "–"
    for size, unit in ((86400, "d"), (3600, "h")):
        if seconds >= 2 * size or (unit == "h" and seconds >= 100 * 60):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 100 else f"{seconds:.0f} s"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns as wide as they must be; those in `right` aligned at the right."""
    found = [list(head), *([clean(c, keep_lines=False) for c in row] for row in rows)]
    widths = [max(cells(row[i]) for row in found) for i in range(len(head))]
    lines = []
    for row in found:
        gaps = [" " * (width - cells(text)) for text, width in zip(row, widths, strict=True)]
        parts = [gap + text if i in right else text + gap for i, (text, gap) in enumerate(zip(row, gaps, strict=True))]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


COLUMNS = ("id", "status", "name", "model", "method", "loss", "best eval", "peak GiB", "tok/s", "time")


def last(run: dict[str, Any], key: str, which: str = "last") -> Any:
    return run["latest"].get(key, {}).get(which)


def short(value: Any) -> str:
    """A value of any size in a few characters: `4,642`, `0.1747`, `6.8e-06`; a dash if unknown."""
    if value is None:
        return "–"
    value = float(value)
    return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e12 else f"{value:.4g}"


def runs_table(runs: list[dict[str, Any]], width: int | None = None) -> str:
    """The list of runs, newest first. What does not fit into `width` characters is left out, the model first."""
    columns: dict[str, list[str]] = {name: [] for name in COLUMNS}
    for run in runs:
        ended = run["ended_at"] or time.time()
        rank = run.get("spec", {}).get("method", {}).get("rank") if run["method"] != "full" else None
        row = [
            run["id"], f"{GLYPHS[run['status']]} {run['status']}", run["name"], run["model"] or "–",
            f"{run['method']} r{rank}" if rank else run["method"] or "–", number(last(run, "loss")),
            number(last(run, "eval_loss", "best")), number(last(run, "memory_allocated_gib", "max"), 1),
            number(last(run, "tokens_per_second"), 0), duration(ended - run["started_at"] if run["started_at"] else None),
        ]  # fmt: skip
        for name, cell in zip(COLUMNS, row, strict=True):
            columns[name].append(cell)
    for dropped in (None, "model", "tok/s", "method", "peak GiB"):
        columns.pop(dropped or "", None)
        right = [i for i, name in enumerate(columns) if name in COLUMNS[5:]]
        text = table(list(columns), list(zip(*columns.values(), strict=True)), right)
        if width is None or max(map(len, text.split("\n"))) <= width:
            break
    return text


def progress_line(run: dict[str, Any]) -> str:
    """`step 12 of 30  40 %  loss 1.23  142 tok/s`, or the phase before training."""
    progress = run["progress"] or {}
    if not progress.get("total"):
        return f"{run['status']}" + (f"  {progress['phase']}" if progress.get("phase") else "")
    step, total = progress["step"], progress["total"]
    return (
        f"step {step} of {total}  {100 * step // total} %  loss {number(last(run, 'loss'))}"
        f"  {number(last(run, 'tokens_per_second'), 0)} tok/s"
        + (f"  {progress['phase']}" if progress.get("phase") and not run["ended_at"] else "")
    )


def run_page(run: dict[str, Any], events: list[dict[str, Any]], samples: list[dict[str, Any]]) -> str:
    """Everything about one run on one page."""
    lines = [f"{clean(run['name'])}   {run['id']}   {GLYPHS[run['status']]} {run['status']}"]
    if run["exit_reason"]:
        lines.append(f"  {clean(run['exit_reason'])}")
    failed = next((e for e in reversed(events) if e["type"] == "failed"), None)
    if failed and run["status"] in ("failed", "oom"):
        lines.append(f"  {clean(failed['data'].get('hint', ''))}")
    came = f"imported from {clean(run['source'], False)}" if run.get("source") else run.get("directory", "")
    lines += [f"  {progress_line(run)}", f"  {came}"]
    for made in [*run.get("checkpoints", []), *run.get("artifacts", [])]:
        name = f"checkpoint {made['step']}" if "step" in made else made["kind"]
        gone = "" if Path(made["path"]).exists() else "  (removed)"
        digest = f"  sha256 {made['sha256'][:12]}" if made.get("sha256") else ""
        lines.append(
            f"  {clean(name, False):<14} {made['bytes'] / 2**20:>7,.0f} MiB  {clean(made['path'])}{digest}{gone}"
        )
    for job in reversed(run.get("jobs", [])):
        words = job["summary"].get("verdict") or job["reason"] or job["phase"] or ""
        lines.append(f"  {job['job']:<14} {job['status']:<9}   {clean(str(words), False)}".rstrip())
    lines.append("")
    summary = [[k, short(v["last"]), short(v["min"]), short(v["max"]), str(v["step"])]
               for k, v in sorted(run["latest"].items())]  # fmt: skip
    if summary:
        lines += [table(["metric", "last", "min", "max", "step"], summary, right=(1, 2, 3, 4)), ""]
    planned = _predicted(run)
    if planned:
        lines += [table(["memory", "predicted GiB", "measured GiB"], planned, right=(1, 2)), ""]
    if run.get("health"):
        lines += ["health", *run["health"], ""]
    reasons = {r["field"]: r["why"] for r in (run["plan"] or {}).get("reasons", [])}
    shown = [[path, value, reasons.get(path, "")] for path, value in run["params"] if value not in (None, "", "[]")]
    lines += [table(["setting", "value", "why"], shown), ""]
    if run.get("started_from"):
        lines += [run["started_from"], ""]
    for sample in samples:
        lines.append(f"step {sample['step']:>5}  > {clean(sample['prompt'])}\n            {clean(sample['text'])}")
    lines += [
        f"{time.strftime('%H:%M:%S', time.localtime(e['time']))}  {clean(e['text'])}"
        for e in events
        if e["type"] != "sample"
    ]
    return "\n".join(lines)


def _predicted(run: dict[str, Any]) -> list[list[str]]:
    """Predicted beside measured memory by component, where a GPU trains; without one the prediction is of another thing."""
    plan, environment = run["plan"] or {}, run.get("environment") or {}
    if not plan.get("memory") or environment.get("device") != "cuda":
        return []
    measured = dict(environment.get("memory_components") or {})
    rows = [
        [name, number(value, 2), number(measured.get(name), 2)] for name, value in plan["memory"]["components"].items()
    ]
    peak, reserved = (last(run, f"memory_{key}_gib", "max") for key in ("allocated", "reserved"))
    rows.append(["allocator peak", number(plan["memory"]["peak_gib"], 2), number(peak, 2)])
    return [*rows, ["device", number(plan["memory"]["device_gib"], 2), f"{number(reserved, 2)} reserved"]]


def gpu_table(hardware: Any, samples: dict[str, Any], processes: Mapping[str, Any] | None = None,
              leases: Sequence[Any] = ()) -> str:  # fmt: skip
    """The machine: its cards and who uses them, or why there are none, and its CPU."""
    lines = []
    rows = []
    for gpu in hardware.gpus:
        now = samples.get(gpu.uuid)
        rows.append([
            str(gpu.index), gpu.name + (" MIG" if gpu.mig else ""), number(now and now.memory_used, 1),
            number(gpu.memory_total, 1), number(now and now.utilization, 0), number(now and now.power, 0),
            number(now and now.temperature, 0), (now and now.throttle) or "",
        ])  # fmt: skip
    if rows:
        head = ["GPU", "card", "used GiB", "of GiB", "load %", "W", "°C", "held down by"]
        told = len(head) if any(row[-1] for row in rows) else len(head) - 1
        lines.append(table(head[:told], [row[:told] for row in rows], right=(2, 3, 4, 5, 6)))
        if used := _users(hardware.gpus, processes or {}, leases):
            lines += ["", table(["GPU", "used by", "pid", "GiB", "user", "for", "run"], used, right=(2, 3)), ""]
    else:
        lines.append(f"No GPU: {hardware.problem}")
    lines.append(f"CPU {hardware.cpu}, {hardware.cores} cores, {hardware.ram_total:.1f} GiB RAM")
    return "\n".join(lines)


def _users(gpus: Sequence[Any], processes: Mapping[str, Any], leases: Sequence[Any]) -> list[list[str]]:
    """A row for each process on a card, and for each run that has a card but nothing on it yet."""
    rows = []
    for gpu in gpus:
        name = ", ".join(lease.name for lease in leases if gpu.uuid in lease.cards)
        found = processes.get(gpu.uuid) or ()
        for one in found:
            since = time.time() - one.started if one.started else None
            run = name if one.kind == "compute" else ""
            rows.append([str(gpu.index), one.command or "–", str(one.pid), number(one.gib, 1), one.user or "–",
                         duration(since), run])  # fmt: skip
        if name and not found:
            rows.append([str(gpu.index), "–", "–", "–", "–", "–", name])
    return rows


def traced(result: dict[str, Any], closed_form: int | None) -> str:
    """The traced step beside the closed form."""
    peak = result["peak_allocated"] / 2**30
    text = f"Traced step: allocator peak {peak:.2f} GiB, reserved about {result['peak_reserved'] / 2**30:.2f} GiB"
    if closed_form:
        text += f"; the closed form said {closed_form / 2**30:.2f} GiB ({100 * (closed_form / result['peak_allocated'] - 1):+.1f} %)"
    return text


def probed(result: dict[str, Any], predicted: int | None) -> str:
    """Two real steps beside the prediction."""
    if result.get("oom"):
        return f"Probed on {result['device']}: out of memory ({clean(result.get('message') or '', False)[:120]})"
    peak = result["max_memory_allocated"] / 2**30
    what = "allocator peak" if result["measure"] == "allocator" else "resident memory"
    text = f"Probed on {result['device']}: {what} {peak:.2f} GiB, {result['seconds_per_step']:.2f} s a step"
    if predicted and result["measure"] == "allocator":
        text += (
            f"; predicted {predicted / 2**30:.2f} GiB ({100 * (predicted / result['max_memory_allocated'] - 1):+.1f} %)"
        )
    return text
