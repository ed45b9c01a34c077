"""`tunedeck merge`: the adapter of a run in the weights of its base, as a model that other tools load without peft."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.after import job as jobs
from engine.after import merging
from engine.after.target import check_room, check_target, size
from engine.after.trained import trained
from engine.fingerprint import at, check_base
from engine.models import inspect_model
from engine.store import runs
from engine.text import clean


def add_verb(verb: Callable[..., argparse.ArgumentParser]) -> None:
    merge_ = verb(
        "merge", merge, "the adapter in the weights of its base, in 16 bit, checked against the adapter on the base"
    )
    merge_.add_argument("run", metavar="RUN", help="id, unique beginning of one, or name")
    merge_.add_argument("target", metavar="DIR", type=Path, help="a new directory")
    merge_.add_argument(
        "--step", type=int, metavar="N", help="the checkpoint of this step; else what the run saved at its end"
    )
    merge_.add_argument(
        "--dtype", choices=merging.DTYPES, help="else the base's own type if it has 16 bits, or bfloat16"
    )
    merge_.add_argument("--by-shards", action="store_true", help="one weight at a time, even if memory holds the model")
    base_flags(merge_, ", or 16 bits hold too little of what was trained")
    merge_.add_argument("--detach", action="store_true", help="return at once; the merge goes on")


def base_flags(parser: argparse.ArgumentParser, more: str = "") -> None:
    """`--base` and `--anyway`, for verbs that load a run's base model (engine.fingerprint)."""
    parser.add_argument("--base", metavar="PATH", help="where the base model is now, if it has been moved")
    parser.add_argument(
        "--anyway", action="store_true", help=f"go on though the base is not what it was at training{more}"
    )


def merge(options: argparse.Namespace) -> int:
    from engine import cli, cli_after

    db, database = cli.opened(options), cli.database(options)
    run = runs.find(db, options.run)
    one = at(trained(database, run, options.step), options.base)
    merging.refuse(one)
    for note in check_base(one, options.anyway):
        print(clean(f"  {note}", keep_lines=False), file=sys.stderr)
    facts = inspect_model(one.spec.model.path, one.spec.model.revision)
    merging.check_plain(facts)
    target = options.target.expanduser().absolute()
    check_target(target)
    check_room(target, merging.room(facts), "The merged model takes")
    ask = {
        "target": str(target), "dtype": options.dtype or merging.own_type(facts), "step": one.step, "base": options.base and one.spec.model.path,
        "anyway": options.anyway, "by_shards": options.by_shards,
    }  # fmt: skip
    job = jobs.create(database, run["id"], "merge", ask)
    return cli_after.follow(options, db, run["id"], job, show)


def show(row: dict[str, Any]) -> None:
    """What came of a merge, for people."""
    print(clean("\n".join(lines(row["summary"]))))


def lines(summary: dict[str, Any]) -> list[str]:
    """A finished merge in a few lines."""
    found = [
        f"Merged into {summary['target']}: {len(summary['files'])} files, {size(summary['bytes'])}, {summary['dtype']}."
    ]
    found.append(f"Merged {summary['why']}.")
    check = summary["check"]
    if check.get("by") == "weights":
        return [
            *found,
            f"Checked weight by weight: at most {check['max_difference']:.2g} off ({check['tolerance']:.2g} allowed).",
        ]
    found.append(
        f"Checked on {check['prompts']} prompts against the adapter on its base: logits {check['mean_difference']:.3g} off on "
        f"the mean ({check['mean_tolerance']:.3g} allowed), {check['max_difference']:.3g} at most ({check['tolerance']:.3g}); "
        f"the same first token in {check['same_top_token']:.1%} of places."
    )
    if check.get("kept") is not None:
        found.append(f"Of what the adapter changes (logits by {check['effect']:.3g} on the mean), {check['kept']:.0%} is in the merged model.")  # fmt: skip
        if check["kept"] <= merging.KEPT:
            found.append(f"The rest is smaller than {summary['dtype']} can hold. "
                         + ("--dtype float16 keeps more." if summary["dtype"] == "bfloat16" else "The adapter on its base keeps it."))  # fmt: skip
    return found
