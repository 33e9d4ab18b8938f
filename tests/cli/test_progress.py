"""What is said on stderr of a plan before the first batch: how much, against what, how long, in how much memory."""

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
Told = Callable[..., list[str]]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """Return a function that gives the lines on stderr after some events."""

    def call(*events: Event) -> list[str]:
        with RunProgress() as progress:
            for event in events:
                progress(event)
        shown = capsys.readouterr()
        assert shown.out == ""
        return shown.err.splitlines()

    return call


def test_a_plan_is_told_with_its_share_of_a_padded_pass_its_time_and_its_memory(told: Told) -> None:
    amount = "1,550 tokens, 62% of the 2,500 that a padded pass would take, about 12 s"
    assert told(PLANNED) == [
        f"policy: 18 of 20 sequences to compute; {amount}",
        "memory: 538 MB of weights and at most 902 MB beside them; 2,048 tokens at a time",
    ]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"weight_bytes": 0}, "memory: the weights and at most 902 MB beside them; 2,048 tokens at a time"),
        ({"batch_tokens": 1}, "memory: 538 MB of weights and at most 902 MB beside them; one sequence at a time"),
    ],
    ids=["files that do not tell", "one by one"],
)
def test_unknown_weights_and_single_sequences_are_told_in_words(told: Told, change: dict[str, int], text: str) -> None:
    assert told(replace(PLANNED, **change))[1] == text  # type: ignore[arg-type]  # all of these are numbers


def test_the_memory_is_told_once_where_policy_and_reference_are_alike(told: Told) -> None:
    lines = told(PLANNED, REF)
    assert [line.split(":")[0] for line in lines] == ["policy", "memory", "ref"]


@pytest.mark.parametrize(
    "change", [{"batch_tokens": 1024}, {"weight_bytes": 10**9}, {"other_bytes": 2 * 10**9}], ids=str
)
def test_the_memory_is_told_again_where_the_reference_takes_another(told: Told, change: dict[str, int]) -> None:
    lines = told(PLANNED, replace(REF, **change))  # type: ignore[arg-type]  # all of these are numbers
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
def test_the_time_is_told_in_the_units_that_say_something(told: Told, seconds: float, text: str) -> None:
    assert told(replace(PLANNED, seconds=seconds))[0].endswith(f", about {text}")


@pytest.mark.parametrize(
    ("size", "text"), [(4_823_808, "5 MB"), (999_000_000, "999 MB"), (16_060_000_000, "16.1 GB")], ids=str
)
def test_the_weights_are_told_in_megabytes_or_gigabytes(told: Told, size: int, text: str) -> None:
    assert told(replace(PLANNED, weight_bytes=size))[1].startswith(f"memory: {text} of weights and ")


def test_padding_that_costs_more_than_a_trainers_is_told_as_it_is(told: Told) -> None:
    assert "2,600 tokens, 104% of the 2,500 that" in told(replace(PLANNED, computed=2_600))[0]


def test_the_reason_for_padding_is_told_of_each_model(told: Told) -> None:
    padded = {"path": "padded", "reason": "its attention is its own"}
    lines = told(replace(PLANNED, **padded), replace(REF, **padded))  # type: ignore[arg-type]  # these are texts
    assert [line for line in lines if "padded rows" in line] == [
        "policy: computed in padded rows, because its attention is its own",
        "ref: computed in padded rows, because its attention is its own",
    ]


def test_a_reason_cannot_control_the_terminal(told: Told) -> None:
    lines = told(replace(PLANNED, path="padded", reason="it \x1b[31mcannot\x07 run"))
    assert not {"\x1b", "\x07"} & set("".join(lines))


def test_where_the_store_has_everything_that_is_all_that_is_told(told: Told) -> None:
    nothing = replace(PLANNED, missing=0, tokens=0, computed=0, padded=0, seconds=0.0)
    assert told(nothing) == ["policy: all 20 sequences are in the store, nothing to compute"]


def test_an_interrupted_run_that_goes_on_is_told(told: Told) -> None:
    assert told(replace(PLANNED, resumed=True))[0].startswith(
        "policy: going on with an interrupted run, 18 of 20 sequences to compute; "
    )


def test_a_plan_of_sequences_without_tokens_is_told_without_a_division_by_zero(told: Told) -> None:
    assert "0 tokens, 0% of the 0 that" in told(replace(PLANNED, tokens=0, computed=0, padded=0))[0]


def test_a_batch_that_did_not_fit_is_told(told: Told) -> None:
    lines = told(PLANNED, Halved("policy", 3, 4))
    assert lines[-1] == "policy batch 3: out of memory, tried again with 4 sequences at a time"


def test_away_from_a_terminal_a_line_now_and_then_tells_what_is_done_and_left(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefscope.cli.progress.SECONDS_BETWEEN_LINES", -1.0)
    lines = told(PLANNED, BatchScored("policy", 0, 4, 400, 310, 3.1), BatchScored("policy", 1, 4, 400, 465, 4.65))
    assert lines[2:] == [
        "policy: 20% done, 100 tokens/s, 12 s left",
        "policy: 50% done, 100 tokens/s, 8 s left",
    ]


def test_notes_are_lines_of_their_own(told: Told) -> None:
    assert told(Noted("Warning: something"), Noted("two [bold]words[/bold]")) == [
        "Warning: something",
        "two [bold]words[/bold]",
    ]


def test_a_batch_of_a_model_that_had_nothing_to_compute_does_not_end_the_run(told: Told) -> None:
    """Another process can clear the store after the plan was told."""
    lines = told(replace(PLANNED, missing=0), BatchScored("policy", 0, 4, 400, 310, 3.1))
    assert lines == ["policy: all 20 sequences are in the store, nothing to compute"]
