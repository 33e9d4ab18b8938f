"""Progress on stderr: the plan before the first batch, batches, notes and crashes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from prefscope.cli.progress import RunProgress
from prefscope.events import BatchScored, Event, Halved, Noted, Planned

PLANNED = Planned(
    role="policy",
    pairs=10,
    sequences=20,
    missing=18,
    tokens=2_000,
    computed=1_550,
    padded=2_500,
    path="packed",
    reason="",
    batch_tokens=2048,
    seconds=12.4,
    weight_bytes=538_100_000,
    other_bytes=901_700_000,
    resumed=False,
)
REF = replace(PLANNED, role="ref")
LinesOf = Callable[..., list[str]]


@pytest.fixture
def lines_of(capsys: pytest.CaptureFixture[str]) -> LinesOf:
    """Return a function that gives the lines on stderr after some events."""

    def call(*events: Event) -> list[str]:
        with RunProgress() as progress:
            for event in events:
                progress(event)
        shown = capsys.readouterr()
        assert shown.out == ""
        return shown.err.splitlines()

    return call


def test_a_plan_shows_its_share_of_a_padded_pass_its_time_and_its_memory(lines_of: LinesOf) -> None:
    amount = "1,550 tokens, 62% of the 2,500 that a padded pass would take, about 12 s"
    assert lines_of(PLANNED) == [
        f"policy: 18 of 20 sequences to compute; {amount}",
        "memory: 538 MB of weights plus at most 902 MB of working memory; 2,048 tokens at a time",
    ]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"weight_bytes": 0}, "memory: the weights plus at most 902 MB of working memory; 2,048 tokens at a time"),
        (
            {"batch_tokens": 1},
            "memory: 538 MB of weights plus at most 902 MB of working memory; one sequence at a time",
        ),
    ],
    ids=["unknown size", "one by one"],
)
def test_unknown_weights_and_single_sequences_are_described_in_words(
    lines_of: LinesOf, change: dict[str, int], text: str
) -> None:
    assert lines_of(replace(PLANNED, **change))[1] == text  # type: ignore[arg-type]  # all of these are numbers


def test_the_memory_is_shown_once_if_policy_and_reference_need_the_same(lines_of: LinesOf) -> None:
    lines = lines_of(PLANNED, REF)
    assert [line.split(":")[0] for line in lines] == ["policy", "memory", "ref"]


@pytest.mark.parametrize(
    "change", [{"batch_tokens": 1024}, {"weight_bytes": 10**9}, {"other_bytes": 2 * 10**9}], ids=str
)
def test_the_memory_is_shown_again_if_the_reference_needs_another(lines_of: LinesOf, change: dict[str, int]) -> None:
    lines = lines_of(PLANNED, replace(REF, **change))  # type: ignore[arg-type]  # all of these are numbers
    assert [line.split(":")[0] for line in lines] == ["policy", "memory", "ref", "memory"]
    assert lines[1] != lines[3]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (89.0, "89 s"),
        (150.0, "2 min"),
        (3590.0, "60 min"),
        (3700.0, "1 h 2 min"),
        (90_000.0, "25 h 0 min"),
    ],
)
def test_the_time_is_shown_in_its_largest_units(lines_of: LinesOf, seconds: float, text: str) -> None:
    assert lines_of(replace(PLANNED, seconds=seconds))[0].endswith(f", about {text}")


@pytest.mark.parametrize(
    ("size", "text"), [(4_823_808, "5 MB"), (999_000_000, "999 MB"), (16_060_000_000, "16.1 GB")], ids=str
)
def test_the_weights_are_shown_in_megabytes_or_gigabytes(lines_of: LinesOf, size: int, text: str) -> None:
    assert lines_of(replace(PLANNED, weight_bytes=size))[1].startswith(f"memory: {text} of weights plus ")


def test_a_share_above_100_percent_of_a_padded_pass_is_shown(lines_of: LinesOf) -> None:
    assert "2,600 tokens, 104% of the 2,500 that" in lines_of(replace(PLANNED, computed=2_600))[0]


def test_the_reason_for_padding_is_shown_for_each_model(lines_of: LinesOf) -> None:
    padded = {"path": "padded", "reason": "it has its own attention code"}
    lines = lines_of(replace(PLANNED, **padded), replace(REF, **padded))  # type: ignore[arg-type]  # these are texts
    assert [line for line in lines if "padded rows" in line] == [
        "policy: computed in padded rows, because it has its own attention code",
        "ref: computed in padded rows, because it has its own attention code",
    ]


def test_a_reason_cannot_control_the_terminal(lines_of: LinesOf) -> None:
    lines = lines_of(replace(PLANNED, path="padded", reason="it \x1b[31mcannot\x07 run"))
    assert not {"\x1b", "\x07"} & set("".join(lines))


def test_a_complete_store_is_reported_in_one_line(lines_of: LinesOf) -> None:
    nothing = replace(PLANNED, missing=0, tokens=0, computed=0, padded=0, seconds=0.0)
    assert lines_of(nothing) == ["policy: all 20 sequences are in the store, nothing to compute"]


def test_a_resumed_run_is_reported_as_such(lines_of: LinesOf) -> None:
    assert lines_of(replace(PLANNED, resumed=True))[0].startswith(
        "policy: resuming an interrupted run, 18 of 20 sequences to compute; "
    )


def test_a_plan_without_tokens_does_not_divide_by_zero(lines_of: LinesOf) -> None:
    assert "0 tokens, 0% of the 0 that" in lines_of(replace(PLANNED, tokens=0, computed=0, padded=0))[0]


def test_a_batch_that_did_not_fit_is_reported(lines_of: LinesOf) -> None:
    lines = lines_of(PLANNED, Halved("policy", 3, 4))
    assert lines[-1] == "policy batch 3: out of memory, retrying with 4 sequences at a time"


def test_without_a_terminal_a_line_now_and_then_shows_progress_and_time_left(
    lines_of: LinesOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefscope.cli.progress.SECONDS_BETWEEN_LINES", -1.0)
    lines = lines_of(PLANNED, BatchScored("policy", 0, 4, 400, 310, 3.1), BatchScored("policy", 1, 4, 400, 465, 4.65))
    assert lines[2:] == [
        "policy: 20% done, 100 tokens/s, 12 s left",
        "policy: 50% done, 100 tokens/s, 8 s left",
    ]


def test_each_note_is_a_line(lines_of: LinesOf) -> None:
    assert lines_of(Noted("Warning: something"), Noted("two [bold]words[/bold]")) == [
        "Warning: something",
        "two [bold]words[/bold]",
    ]


def test_a_batch_of_a_model_that_had_nothing_to_compute_does_not_end_the_run(lines_of: LinesOf) -> None:
    """Another process can clear the store after the plan was shown."""
    lines = lines_of(replace(PLANNED, missing=0), BatchScored("policy", 0, 4, 400, 310, 3.1))
    assert lines == ["policy: all 20 sequences are in the store, nothing to compute"]
