"""What `--gpu` means: this machine's cards, a card by name, or a size."""

import dataclasses

import pytest

from engine import cards as module
from engine.cards import Cards, own_cards, parse_gpu
from engine.catalog import cards
from engine.errors import SpecError
from engine.hardware import Gpu, probe
from tests.engine.fake_nvml import A100_MIG, LOST, RTX_4090, Card, FakeNvml, memory

A100 = Card({"Name": "NVIDIA A100-SXM4-80GB", "MemoryInfo": memory(81920, 500)})


@pytest.mark.parametrize(
    ("text", "count", "key"),
    [
        ("rtx4090", 1, "rtx4090"),
        ("RTX 4090", 1, "rtx4090"),
        ("GeForce RTX 4090", 1, "rtx4090"),
        ("4090", 1, "rtx4090"),
        ("2xrtx4090", 2, "rtx4090"),
        (" 2 x RTX 4090 ", 2, "rtx4090"),
        ("2X4090", 2, "rtx4090"),
        ("8xh100", 8, "h100"),
        ("H100 80GB", 1, "h100"),
        ("h100-pcie", 1, "h100-pcie"),
        ("a100-80gb", 1, "a100-80gb"),
        ("A100 80GB", 1, "a100-80gb"),
        ("A100", 1, "a100-40gb"),
        ("a6000", 1, "rtxa6000"),
        ("RTX 4060 Ti 16GB", 1, "rtx4060ti-16gb"),
        ("l4 24GB", 1, "l4"),  # 24 on the box, 22.5 to NVML
        ("GH200 480GB", 1, "gh200"),  # NVML's own name; the size is the processor's
        ("4xNVIDIA H100 80GB HBM3", 4, "h100"),
    ],
)
def test_a_card_by_name(text: str, count: int, key: str) -> None:
    card = cards()[key]
    assert parse_gpu(text) == Cards(count, card.name, card.memory, card)


@pytest.mark.parametrize(
    ("text", "count", "gib"),
    [
        ("24GiB", 1, 24.0),
        ("24GB", 1, 24.0),
        ("24gb", 1, 24.0),
        ("24", 1, 24.0),
        ("2x24GiB", 2, 24.0),
        ("8 x 80 GB", 8, 80.0),
        ("22.5GiB", 1, 22.5),
        ("80G", 1, 80.0),
    ],
)
def test_a_size_has_no_speed(text: str, count: int, gib: float) -> None:
    assert parse_gpu(text) == Cards(count, "GPU", gib, None)


@pytest.mark.parametrize(
    "text",
    ["", "  ", "x", "2x", "0x24", "0xrtx4090", "0", "0GiB", "-24", "1e9", "inf", "nan", "24TB", "24MiB", "a100-60gb",
     "rtx4090-48gb", "2x2xrtx4090", "99999xrtx4090", "24,5", "auto2", "2xauto", "mi300x", "\x1b[31mrtx4090", "4090\n4090"],
)  # fmt: skip
def test_what_is_neither_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_gpu(text)
    assert "24GiB" in caught.value.hint
    assert "\x1b" not in caught.value.message


def test_near_names_are_offered() -> None:
    with pytest.raises(SpecError) as caught:
        parse_gpu("2xRTX 4091")
    assert "rtx4090" in caught.value.hint.partition(".")[0]


def test_descriptions() -> None:
    two, one = parse_gpu("2xrtx4090"), parse_gpu("22.5GiB")
    assert two is not None
    assert one is not None
    assert (two.description, one.description) == ("2 x RTX 4090, 24.0 GiB", "GPU, 22.5 GiB")


def test_auto_is_the_machines_own_cards_with_the_memory_they_have_in_all() -> None:
    found = parse_gpu("auto", probe(FakeNvml(RTX_4090, LOST, RTX_4090)))
    assert found == Cards(2, "RTX 4090", 24564 / 1024, cards()["rtx4090"])


def test_auto_and_the_catalog_name_agree_on_a_card() -> None:
    assert parse_gpu("Auto", probe(FakeNvml(A100))) == parse_gpu("a100-80gb")


def test_auto_probes_the_machine_if_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "probe", lambda: probe(FakeNvml(A100)))
    assert parse_gpu("auto") == parse_gpu("a100-80gb")


def test_auto_takes_the_largest_group_of_unequal_cards() -> None:
    found = parse_gpu("auto", probe(FakeNvml(RTX_4090, A100, RTX_4090)))
    assert found is not None
    assert (found.count, found.name) == (1, "A100-SXM4-80GB")


def test_a_card_that_is_cut_into_slices_counts_as_one_slice_of_unknown_speed() -> None:
    found = parse_gpu("auto", probe(FakeNvml(A100_MIG)))
    assert found == Cards(1, "A100-SXM4-80GB MIG 3g.40gb", 39.25, None)


@pytest.mark.parametrize("nvml", [FakeNvml(), FakeNvml(LOST), FakeNvml(RTX_4090, refuses=9)])
def test_auto_without_a_gpu_is_none(nvml: FakeNvml) -> None:
    assert parse_gpu("auto", probe(nvml)) is None


def test_equal_cards_are_as_large_as_the_smallest_of_them() -> None:
    gpu = Gpu(0, "GPU-0", "B999", 100.2)
    found = own_cards((gpu, dataclasses.replace(gpu, index=1, memory_total=100.1)))
    assert found == Cards(2, "B999", 100.1, None)
