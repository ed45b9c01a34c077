"""The health rules on curves made for them: each says its trouble, its remedy, and nothing where there is too little to say."""

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.health import Finding, GpuMoment, Point, Streams, all_well, diagnose
from engine.health_curves import spikes

SPEC: dict[str, Any] = {
    "objective": "sft", "method.kind": "lora", "method.rank": 8, "method.alpha": 16.0, "training.learning_rate": 2e-4,
    "training.micro_batch": 4, "training.accumulation": 4, "training.max_steps": 200, "training.max_grad_norm": 1.0,
    "training.warmup": 0.03, "data.validation": 0.1, "evaluation.every": 20,
}  # fmt: skip
"""2e-4 is the usual rate for LoRA on 5,000 rows and a billion parameters."""


def curve(values: Sequence[float], every: int = 1) -> list[Point]:
    return [((i + 1) * every, 10.0 * (i + 1) * every, value) for i, value in enumerate(values)]


def falling(steps: int = 200, start: float = 3.0, end: float = 1.0, noise: float = 0.1, seed: int = 0) -> list[float]:
    dice = random.Random(seed)
    return [end + (start - end) * math.exp(-4 * i / steps) + dice.gauss(0, noise) for i in range(steps)]


def flat(steps: int = 200, level: float = 2.0, noise: float = 0.05, seed: int = 0) -> list[float]:
    return falling(steps, level, level, noise, seed)


def run(loss: Sequence[float], spec: dict[str, Any] | None = None, **given: Any) -> Streams:
    """A run of which so many losses are known; other curves by name, everything else as a field of Streams."""
    settings = SPEC | (spec or {})
    rate = float(settings["training.learning_rate"])
    fields = {name: given.pop(name) for name in list(given) if name in Streams.__dataclass_fields__}
    curves = {"loss": curve(loss), "learning_rate": curve([rate] * len(loss))} | given
    kept = {name: points for name, points in curves.items() if points}
    return Streams(
        **{"curves": kept, "spec": settings, "step": len(loss), "total": 200, "parameters": 10**9, "rows": 5000}
        | fields
    )


def of(streams: Streams, *kinds: str) -> list[Finding]:
    return [one for one in diagnose(streams) if one.kind in kinds]


def worst(streams: Streams) -> Finding:
    found = diagnose(streams)
    assert [one.severity for one in found] == sorted(
        (one.severity for one in found), key=("warning", "note", "ok", "n/a").index
    )
    return found[0]


def troubles(streams: Streams) -> list[tuple[str, str]]:
    return [(one.kind, one.severity) for one in diagnose(streams) if one.severity in ("warning", "note")]


WELL = run(falling(), eval_loss=curve([2.0, 1.6, 1.3, 1.2, 1.1], 40), grad_norm=curve(flat(level=0.5)),
           data_wait=curve([0.001] * 200), padding=curve([0.02] * 200), general_loss=[(0, 0.0, 3.0), (200, 9.0, 3.02)])  # fmt: skip


class TestWell:
    def test_everything_is_named(self) -> None:
        assert troubles(WELL) == []
        assert (
            all_well(diagnose(WELL))
            == "loss falls, eval follows, gradients calm, never waited for data, nothing forgotten, little padding"
        )

    def test_lines_have_their_numbers(self) -> None:
        texts = {one.kind: one.text for one in diagnose(WELL)}
        assert texts["loss"] == "loss falls: 2.51 to 1.07"
        assert texts["waiting"] == "training waited for data 0 % of the time"
        assert texts["padding"] == "padding 2.0 % of tokens"

    def test_nothing_is_known(self) -> None:
        assert diagnose(Streams()) == []
        assert {one.severity for one in diagnose(run(falling(1)))} == {"n/a"}

    @pytest.mark.parametrize("steps", [1, 2, 5, 9])
    def test_a_run_that_began(self, steps: int) -> None:
        assert troubles(run(flat(steps, noise=1.0))) == []

    @pytest.mark.parametrize("seed", range(20))
    def test_noise_of_small_batches_at_any_moment(self, seed: int) -> None:
        """A quarter as large as the loss, with one odd batch in twenty."""
        dice = random.Random(seed)
        losses = [
            loss * dice.lognormvariate(0, 0.25) * (2.5 if dice.random() < 0.05 else 1) for loss in falling(noise=0)
        ]
        assert [n for n in range(1, 200, 7) if troubles(run(losses[:n]))] == []


class TestNotANumber:
    def test_the_loss(self) -> None:
        losses = [*falling(30), math.nan, math.nan]
        found = worst(run(losses, {"training.learning_rate": 0.02}, grad_norm=curve([1.0] * 29 + [80.0, math.nan])))
        assert (found.kind, found.severity, found.text) == ("nonfinite", "warning", "loss is NaN from step 31 on")
        assert "gradient norm 1 at first, 80 just before" in found.evidence
        assert found.changes == (("training.learning_rate", 2e-4),)

    def test_it_is_the_only_trouble(self) -> None:
        losses = [*falling(30), 50.0, 60.0, 70.0, math.inf]
        assert troubles(run(losses, eval_loss=curve([1.0, 9.0, 30.0], 10))) == [("nonfinite", "warning")]

    def test_from_the_first_step(self) -> None:
        found = worst(run([math.nan] * 5))
        assert "first step" in found.text
        assert found.changes == ()

    def test_a_few_that_were_skipped(self) -> None:
        norms = [1.0] * 200
        norms[40] = math.inf
        found = worst(run(falling(), grad_norm=curve(norms)))
        assert (found.severity, found.text) == ("note", "gradient was infinite at 1 of 200 steps and came back")
        assert of(run(falling(), grad_norm=curve(norms)), "loss")[0].severity == "ok"

    def test_the_evaluation_alone(self) -> None:
        streams = run(falling(), eval_loss=curve([math.nan, math.nan], 40))
        assert worst(streams).text == "eval loss is not a number, train loss is"
        assert of(streams, "loss")[0].severity == "ok"

    def test_a_run_that_failed_of_it_before_it_could_be_logged(self) -> None:
        assert worst(run(falling(12), failed="nonfinite", ended=True)).kind == "nonfinite"


class TestRateTooHigh:
    def test_the_loss_rises_and_stays(self) -> None:
        found = worst(run([*falling(40), *flat(60, 6.0, 0.5)], {"training.learning_rate": 0.02}))
        assert (found.kind, found.changes) == ("rate_high", (("training.learning_rate", 2e-4),))
        assert found.text.startswith("learning rate 0.02 is too high: loss rose from 1.07 to 6.")

    def test_at_the_usual_rate_it_is_not_called_too_high(self) -> None:
        found = worst(run([*falling(40), *flat(60, 6.0, 0.5)]))
        assert found.text.endswith("and stays")
        assert found.changes == (("training.learning_rate", 6.7e-5),)

    def test_as_soon_as_it_is_plain(self) -> None:
        assert worst(run([3.0, 2.9, 3.1, 2.8, 3.0, 10.0, 14.0, 22.0, 30.0, 25.0])).kind == "rate_high"

    def test_from_a_low_level(self) -> None:
        assert worst(run([*falling(100, end=0.5, noise=0.05), *flat(40, 0.9, 0.05)])).kind == "rate_high"

    def test_a_drift_of_the_rows_is_not_it(self) -> None:
        """Rows grouped by length: the short ones come last and have a higher loss; the evaluations know better."""
        drift = [2.0 + 0.03 * i + random.Random(i).gauss(0, 0.1) for i in range(40)]
        assert troubles(run(drift, {"training.group_by_length": True}, eval_loss=curve([2.6, 2.4, 2.3], 12))) == []

    def test_flat_at_a_rate_far_above_the_usual(self) -> None:
        found = worst(run(flat(level=5.2), {"training.learning_rate": 0.9}, eval_loss=curve([5.2, 5.21, 5.2], 60)))
        assert found.text == "learning rate 0.9 is too high: loss stays near 5.2"

    def test_it_hides_what_follows_from_it(self) -> None:
        streams = run([*falling(40), *flat(60, 6.0, 0.5)], {"training.learning_rate": 0.02}, eval_loss=curve([2.0, 5.0, 6.0, 7.0], 25),
                      grad_norm=curve([*flat(50, 1.0), *flat(50, 40.0)]), general_loss=[(0, 0.0, 3.0), (100, 9.0, 9.0)])  # fmt: skip
        assert troubles(streams) == [("rate_high", "warning")]


def jumping(losses: list[float], *places: int) -> list[float]:
    """With jumps from which the loss needs three steps to come back."""
    for at in places:
        losses[at : at + 3] = [9.0, 6.0, 3.0][: len(losses) - at]
    return losses


class TestSpiking:
    def test_many(self) -> None:
        found = worst(run(jumping(falling(), 80, 110, 140, 170)))
        assert (found.kind, found.text) == ("spiking", "loss spikes: 4 times in 200 steps")
        assert found.changes == (("training.learning_rate", 6.7e-5),)

    def test_two_that_came_back_are_silent(self) -> None:
        assert troubles(run(jumping(falling(), 80, 140))) == []

    def test_batches_of_odd_rows_are_silent(self) -> None:
        losses = falling()
        losses[60::20] = [9.0] * 7
        assert troubles(run(losses)) == []

    def test_two_kinds_of_rows_are_silent(self) -> None:
        dice = random.Random(0)
        losses = [loss * (2.5 if dice.random() < 0.4 else 0.3) for loss in falling(noise=0.05)]
        assert [n for n in range(1, 200, 3) if troubles(run(losses[:n]))] == []

    def test_all_of_a_long_run_are_found(self) -> None:
        places = [60, 999, 1050, 2503, 4990]
        losses = jumping(falling(5000), *places)
        assert spikes(losses, 10.0) == places


class TestNothingLearned:
    def test_the_adapter_is_as_it_was(self) -> None:
        found = worst(run(flat(), weight_change=curve([0.0] * 200)))
        assert (found.kind, found.text) == ("frozen", "the adapter does not change")
        assert "training.precision" in found.remedy

    def test_evaluations_equal_to_the_last_digit(self) -> None:
        found = worst(run(flat(), {"method.kind": "full"}, eval_loss=curve([2.1234567] * 3, 60)))
        assert found.text.startswith("the weights do not change")

    def test_no_learning_rate(self) -> None:
        found = worst(run(flat(), {"training.learning_rate": 1e-30}, weight_change=curve([0.0] * 200)))
        assert found.changes == (("training.learning_rate", 2e-4),)

    def test_clipped_away(self) -> None:
        found = worst(
            run(
                flat(),
                {"training.max_grad_norm": 1e-20},
                weight_change=curve([1e-14] * 200),
                grad_norm=curve([2.0] * 200),
            )
        )
        assert found.changes == (("training.max_grad_norm", 1.0),)

    def test_no_gradient(self) -> None:
        found = worst(
            run(flat(), {"method.alpha": 1e-12}, grad_norm=curve([1e-13] * 200), weight_change=curve([1e-4] * 200))
        )
        assert (found.text, found.changes) == ("nothing is learned: no gradient arrives", (("method.alpha", 16.0),))

    def test_a_rate_far_too_low(self) -> None:
        found = worst(
            run(flat(60, noise=0.4), {"training.learning_rate": 2e-7}, eval_loss=curve([2.0, 2.001, 1.999], 20))
        )
        assert (found.kind, found.changes) == ("rate_low", (("training.learning_rate", 2e-4),))
        assert found.text == "learning rate 2e-07 is too low: loss stays near 2"

    def test_a_low_rate_under_which_the_loss_falls_is_fine(self) -> None:
        assert troubles(run(falling(), {"training.learning_rate": 2e-7})) == []

    def test_a_warm_up_without_end(self) -> None:
        rates = curve([2e-10 * i for i in range(120)])
        found = worst(run(flat(120), learning_rate=rates))
        assert (found.kind, found.changes) == ("rate_low", (("training.warmup", 0.03),))

    def test_not_while_it_warms_up(self) -> None:
        rates = curve([2e-7 * i for i in range(80)])
        assert troubles(run(flat(80), learning_rate=rates)) == []

    def test_flat_for_no_reason_known(self) -> None:
        found = worst(run(flat()))
        assert (found.kind, found.changes) == ("flat", (("training.learning_rate", 6e-4),))

    def test_flat_only_if_a_fall_would_have_been_seen(self) -> None:
        assert troubles(run(flat(noise=0.8))) == []

    def test_flat_only_after_a_while(self) -> None:
        assert troubles(run(flat(50), total=5000)) == []
        assert worst(run(flat(1300), total=5000)).kind == "flat"

    def test_what_was_learned_at_once_is_seen(self) -> None:
        quick = [*falling(20), *flat(980, 1.0)]
        assert troubles(run(quick, total=1000, eval_loss=curve([1.0, 1.001, 1.0, 1.001], 250))) == []

    def test_evaluations_that_fall_are_believed(self) -> None:
        assert troubles(run(flat(), eval_loss=curve([2.0, 1.95, 1.9], 60))) == []


class TestGradient:
    def test_grows(self) -> None:
        found = worst(run(falling(), grad_norm=curve([*flat(150, 0.5), *flat(50, 20.0)])))
        assert (found.kind, found.severity) == ("gradient", "warning")

    def test_vanishes(self) -> None:
        assert worst(run(falling(), grad_norm=curve([*flat(150, 0.5), *[0.0] * 50]))).text.startswith(
            "gradient is gone"
        )

    def test_single_large_ones_are_silent(self) -> None:
        norms = flat(200, 0.5)
        norms[60] = norms[199] = 300.0
        assert troubles(run(falling(), grad_norm=curve(norms))) == []


class TestOverFitting:
    def evaluated(self, *losses: float, **more: Any) -> Streams:
        return run(falling(end=0.1), eval_loss=curve(losses, 40), **more)

    def test_turns_up(self) -> None:
        found = worst(self.evaluated(2.0, 1.5, 1.6, 1.8, 2.1))
        assert (found.kind, found.severity, found.text) == (
            "over_fitting",
            "warning",
            "over-fits: eval 1.5 at step 80, now 2.1",
        )
        assert found.changes == (("training.max_steps", 80),)
        assert found.evidence.startswith("40 % above its best, 3 evaluations ago")

    def test_by_epochs(self) -> None:
        found = worst(self.evaluated(2.0, 1.5, 1.6, 1.8, 2.1, spec={"training.max_steps": None}, epochs=5.0))
        assert found.changes == (("training.epochs", 2.0),)

    def test_a_little_is_a_note(self) -> None:
        assert troubles(self.evaluated(2.0, 1.5, 1.53, 1.54)) == [("over_fitting", "note")]

    @pytest.mark.parametrize(
        "losses", [(2.0, 1.5, 1.51, 1.52), (2.0, 1.5, 1.6), (2.0, 1.5, 1.6, 1.49), (2.0,), (0.01, 0.005, 0.012, 0.02)]
    )
    def test_none(self, losses: tuple[float, ...]) -> None:
        assert troubles(self.evaluated(*losses)) == []

    def test_early_stopping_sees_to_it(self) -> None:
        found = worst(self.evaluated(2.0, 1.5, 1.6, 1.8, 2.1, spec={"evaluation.early_stopping": 3}))
        assert (found.severity, found.changes) == ("note", ())

    def test_nothing_held_out(self) -> None:
        (found,) = of(run(falling(), {"data.validation": 0}), "over_fitting")
        assert (found.severity, found.text) == ("n/a", "over-fitting: nothing is held out")


class TestForgetting:
    def test_levels(self) -> None:
        def after(loss: float) -> Finding:
            return of(run(falling(), general_loss=[(0, 0.0, 3.0), (100, 1.0, 3.01), (200, 2.0, loss)]), "forgetting")[0]

        assert [after(loss).severity for loss in (2.9, 3.05, 3.2, 3.5)] == ["ok", "ok", "note", "warning"]
        assert after(3.5).evidence == "65 % more perplexity than the base model"

    def test_without_the_base_model_nothing_is_said(self) -> None:
        assert of(run(falling(), general_loss=[(100, 1.0, 3.0), (200, 2.0, 9.0)]), "forgetting")[0].severity == "n/a"


class TestGrpo:
    def test_its_loss_is_not_judged(self) -> None:
        rewards = [0.1 + 0.002 * i + random.Random(i).gauss(0, 0.05) for i in range(200)]
        streams = run(
            flat(level=0.0, noise=0.01),
            {"objective": "grpo"},
            reward=curve(rewards),
            eval_loss=curve([0.0, 0.1, 0.3, 0.5], 40),
        )
        assert troubles(streams) == []
        assert of(streams, "reward")[0].text.startswith("reward rises: 0.156")

    def test_its_reward_is(self) -> None:
        rewards = [0.5 - 0.002 * i + random.Random(i).gauss(0, 0.05) for i in range(200)]
        assert troubles(run(flat(level=0.0, noise=0.01), {"objective": "grpo"}, reward=curve(rewards))) == [
            ("reward", "warning")
        ]


def moments(count: int = 100, **given: Any) -> list[GpuMoment]:
    return [
        GpuMoment(10.0 + i, **({"used": 19.3, "utilization": 98.0, "temperature": 71.0} | given)) for i in range(count)
    ]


def on_card(spec: dict[str, Any] | None = None, **given: Any) -> Streams:
    known: dict[str, Any] = {"cuda": True, "memory_total": 24.0, "memory_used": 19.3, "gpu": moments(),
                             "memory_allocated_gib": curve([18.3] * 200)}  # fmt: skip
    return run(falling(), spec, **known | given)


class TestMachine:
    def test_waiting(self) -> None:
        shares = {share: of(run(falling(), data_wait=curve([share] * 200)), "waiting")[0] for share in (0.02, 0.2, 0.5)}
        assert [one.severity for one in shares.values()] == ["ok", "note", "warning"]
        assert shares[0.5].changes == (("extra.trainer.dataloader_num_workers", 4),)
        assert shares[0.5].text == "training waits for data 50 % of the time"

    def test_how_it_is_now_counts(self) -> None:
        assert of(run(falling(), data_wait=curve([0.9] * 100 + [0.0] * 100)), "waiting")[0].severity == "ok"

    def test_idle(self) -> None:
        (found,) = of(on_card(gpu=moments(utilization=30.0)), "idle")
        assert (found.severity, found.text) == ("note", "GPU idle 70 % of the time")
        assert found.changes == (("training.micro_batch", 8), ("training.accumulation", 2))

    def test_idle_for_data_is_one_finding(self) -> None:
        assert troubles(on_card(gpu=moments(utilization=30.0), data_wait=curve([0.6] * 200))) == [
            ("waiting", "warning")
        ]

    def test_throttling(self) -> None:
        assert of(on_card(), "throttling")[0].text == "no throttling; 71 °C"
        hot = of(on_card(gpu=moments(throttle="thermal", temperature=88.0)), "throttling")[0]
        assert (hot.severity, hot.text) == ("warning", "heat slows the GPU 100 % of the time")
        assert of(on_card(gpu=moments(throttle="power")), "throttling")[0].severity == "note"

    def test_memory_nearly_full(self) -> None:
        full = on_card(memory_allocated_gib=curve([23.4] * 200), memory_used=23.8)
        (found,) = of(full, "memory")
        assert (found.severity, found.changes) == (
            "warning",
            (("training.micro_batch", 2), ("training.accumulation", 8)),
        )
        ended = on_card(memory_allocated_gib=curve([23.4] * 200), memory_used=23.8, ended=True)
        assert of(ended, "memory")[0].severity == "note"

    def test_a_larger_batch_fits(self) -> None:
        (found,) = of(on_card(memory_used=16.0, planned={"weights": 13.0, "activations": 2.0, "logits": 0.3}), "memory")
        assert found.text == "8.0 GiB unused: micro-batch 8 fits (about 18.6 GiB)"
        assert found.changes == (("training.micro_batch", 8), ("training.accumulation", 2))

    def test_no_larger_batch_with_the_same_rows_a_step(self) -> None:
        (found,) = of(on_card({"training.accumulation": 1}, memory_used=16.0, planned={"activations": 2.0}), "memory")
        assert (found.severity, found.text) == ("ok", "memory 16.0 of 24.0 GiB, 8.0 free")

    def test_padding(self) -> None:
        padded = curve([0.45] * 200)
        assert of(run(falling(), padding=padded), "padding")[0].changes == (("training.group_by_length", True),)
        assert of(on_card(padding=padded), "padding")[0].changes == (("training.packing", True),)
        assert of(on_card({"objective": "dpo"}, padding=padded), "padding")[0].changes == ()
        assert of(run(falling(), padding=padded), "padding")[0].severity == "note"

    def test_slow(self) -> None:
        def at(speed: float, *usual: float) -> Finding:
            return of(on_card(tokens_per_second=curve([speed] * 200), usual_speeds=usual), "slow")[0]

        assert at(500.0, 1000.0, 1010.0, 990.0).text == "slow: 500 tokens a second, usual 1,000"
        assert at(900.0, 1000.0, 1010.0, 990.0).severity == "ok"
        assert at(500.0, 1000.0).severity == "n/a"


NUMBERS = st.floats() | st.sampled_from([0.0, 1.0, 2.0, math.nan, math.inf, -1e308, 1e308, 5e-324])
CURVES = st.dictionaries(
    st.sampled_from(["loss", "eval_loss", "learning_rate", "grad_norm", "weight_change", "general_loss", "data_wait", "padding",
                     "tokens_per_second", "memory_allocated_gib", "memory_reserved_gib", "reward"]),
    st.lists(st.tuples(st.integers(-5, 300), st.floats(-1e9, 1e12), NUMBERS), max_size=60),
)  # fmt: skip
SETTINGS = st.fixed_dictionaries({}, optional={
    "objective": st.sampled_from([None, "sft", "dpo", "grpo"]), "method.kind": st.sampled_from([None, "lora", "full", "vera"]),
    "training.learning_rate": NUMBERS | st.none(), "training.max_steps": st.none() | st.integers(1, 99),
    "training.micro_batch": st.integers(1, 8), "training.accumulation": st.integers(1, 8), "method.rank": st.integers(1, 64),
    "method.alpha": NUMBERS, "training.max_grad_norm": NUMBERS, "training.group_by_length": st.booleans(),
    "data.validation": st.none() | st.floats(0, 1), "evaluation.every": st.none() | st.integers(0, 5)})  # fmt: skip
GPU = st.lists(
    st.builds(
        GpuMoment,
        NUMBERS,
        st.none() | NUMBERS,
        st.none() | NUMBERS,
        st.none() | NUMBERS,
        st.sampled_from(["", "thermal"]),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(
    st.builds(
        Streams, curves=CURVES, spec=SETTINGS, step=st.integers(0, 300), total=st.none() | st.integers(0, 300),
        epochs=st.none() | NUMBERS, ended=st.booleans(), failed=st.sampled_from(["", "nonfinite", "oom"]),
        parameters=st.none() | st.integers(0, 10**12), rows=st.none() | st.integers(0, 10**7), cuda=st.booleans(),
        memory_total=st.none() | NUMBERS, memory_used=st.none() | NUMBERS, gpu=GPU,
        planned=st.dictionaries(st.sampled_from(["activations", "logits"]), NUMBERS), usual_speeds=st.lists(NUMBERS, max_size=5),
    )
)  # fmt: skip
def test_of_anything(streams: Streams) -> None:
    """No number makes it fail, and what it finds can be drawn and forked."""
    for one in diagnose(streams):
        assert one.text
        assert one.severity in ("warning", "note", "ok", "n/a")
        assert one.severity in ("warning", "note") or not one.changes
        assert all(not isinstance(value, float) or 0 < value < math.inf for _, value in one.changes)
        assert all(value < 1 for path, value in one.changes if path == "training.learning_rate")
