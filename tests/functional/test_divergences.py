"""Runs with --kl: the divergences are those of two plain forward passes, whatever models share weights."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from prefscope.data.dialects import normalise
from prefscope.data.records import SourceRow
from prefscope.errors import ResourceError, UsageError
from prefscope.events import BatchScored, Event, LogpsKnown
from prefscope.ledger.columns import DIVERGENCES, TOKEN_DIVERGENCES
from prefscope.ledger.table import load_ledger
from prefscope.pipeline import model_pool
from prefscope.pipeline.candidates import Candidate
from prefscope.pipeline.model_pool import ModelPool, ScoredModel
from prefscope.pipeline.run import score
from prefscope.preference.losses import tdpo1_loss
from prefscope.scoring.probe import Budget
from prefscope.scoring.tokenization import PairTokenizer, TokenizedPair
from prefscope.settings import DispatchSettings, ScoreSettings, TokenizationSettings
from tests.functional.runs import POLICY, REF, Outcome, interrupt_after, roles, run, settings_of
from tests.peers.adapters import load_base, load_by_peft, save_adapter

pytestmark = pytest.mark.slow

Program = Callable[..., tuple[int, str, str]]
NAMES = [column.name for column in (*DIVERGENCES, *TOKEN_DIVERGENCES)]
SEQUENCES = 10
SMALL = 64
"""Tokens of a batch, for several batches."""
NATS_A_TOKEN = 2e-6
DIRECTIONS = ("kl_policy_ref", "kl_ref_policy")


def settings_with(
    data: Path, policy: Path = POLICY, ref: Path | str | None = REF, cache: str = "cache", **models: Any
) -> ScoreSettings:
    settings = settings_of(policy, ref, data=data, batch_tokens=SMALL, cache=cache, **models)
    return replace(settings, compute=replace(settings.compute, divergences=True))


def expected(rows: list[dict[str, Any]], policy: Any, ref: Any) -> list[dict[str, list[float]]]:
    """Return both divergences at every token of each pair by two forward passes in float64."""
    pairs = [normalise(SourceRow(number, number + 1, row))[0] for number, row in enumerate(rows)]
    tokenizer = AutoTokenizer.from_pretrained(REF)
    items = PairTokenizer(tokenizer, TokenizationSettings(), None, frozenset()).tokenize(pairs)
    found = []
    for item in items:
        assert isinstance(item, TokenizedPair)
        of_pair = {}
        for side, sequence in (("chosen", item.chosen), ("rejected", item.rejected)):
            ids = torch.from_numpy(sequence.token_ids.astype(np.int64))[None]
            with torch.inference_mode():
                p, q = (
                    model(ids).logits[0, sequence.first_scored - 1 : -1].double().log_softmax(-1)
                    for model in (policy, ref)
                )
            of_pair[f"{side}_token_kl_policy_ref"] = (p.exp() * (p - q)).sum(-1).tolist()
            of_pair[f"{side}_token_kl_ref_policy"] = (q.exp() * (q - p)).sum(-1).tolist()
        found.append(of_pair)
    return found


def plain(folder: Path) -> PreTrainedModel:
    """Load a checkpoint in float64."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    return model


def assert_diverge_as(outcome: Outcome, wanted: list[dict[str, list[float]]]) -> None:
    for row, of_pair in zip(outcome.table.select(NAMES).to_pylist(), wanted, strict=True):
        for name, values in of_pair.items():
            assert row[name] == pytest.approx(values, abs=NATS_A_TOKEN, rel=1e-4), name
            assert row[name.replace("_token", "")] == pytest.approx(sum(row[name]), rel=1e-6)


@pytest.mark.parametrize(("attn", "path"), [("auto", "packed"), ("eager", "padded")])
def test_the_divergences_are_those_of_two_plain_forward_passes(
    pairs: Path, rows: list[dict[str, Any]], attn: str, path: str
) -> None:
    outcome = run(settings_with(pairs, attn=attn))
    assert {plan.path for plan in outcome.plans.values()} == {path}
    assert_diverge_as(outcome, expected(rows, plain(POLICY), plain(REF)))


def test_adapters_are_switched_for_each_model(tmp_path: Path, pairs: Path, rows: list[dict[str, Any]]) -> None:
    first, second = (save_adapter("lora", REF, tmp_path / "adapters", seed) for seed in (1, 2))
    base, of_first, of_second = (
        model.double() for model in (load_base(REF), load_by_peft(first, REF), load_by_peft(second, REF))
    )
    settings = [
        (settings_with(pairs, first, None, "one"), expected(rows, of_first, base)),
        (settings_with(pairs, REF, first, "two"), expected(rows, base, of_first)),
        (settings_with(pairs, first, second, "three"), expected(rows, of_first, of_second)),
    ]
    for asked, wanted in settings:
        assert sum(map(sum, (values for pair in wanted for values in pair.values()))) > 0.1
        assert_diverge_as(run(asked), wanted)


def test_a_model_does_not_diverge_from_itself(pairs: Path) -> None:
    table = run(settings_with(pairs, POLICY, POLICY)).table
    assert {value for column in DIVERGENCES for value in table[column.name].to_pylist()} == {0.0}


def test_all_other_columns_and_the_keys_of_the_store_are_those_of_a_run_without(pairs: Path) -> None:
    with_ = settings_with(pairs, cache="one")
    without = replace(with_, compute=replace(with_.compute, divergences=False, cache_dir="two"))
    found = run(with_)
    assert found.table.drop_columns(NAMES).equals(run(without).table)
    assert {
        plan.missing for plan in run(replace(without, compute=replace(without.compute, cache_dir="one"))).plans.values()
    } == {0}


def test_one_pass_over_the_batches_of_the_policy_computes_both_models(pairs: Path) -> None:
    outcome = run(settings_with(pairs))
    assert {*roles(outcome.batches)} == {"policy"}
    assert [outcome.plans[role].missing for role in ("policy", "ref")] == [SEQUENCES, 0]


def test_pairs_are_complete_while_the_run_goes_on(pairs: Path) -> None:
    events: list[Event] = []
    score(settings_with(pairs), lambda _: Path("out.parquet"), events.append, Path("preview.parquet"))
    batches = [at for at, event in enumerate(events) if isinstance(event, BatchScored)]
    known = [event for event in events[: batches[1]] if isinstance(event, LogpsKnown)]
    assert [event.role for event in known[:2]] == ["policy", "ref"]
    assert known[0].digests == known[1].digests


def test_batches_keep_to_the_smaller_budget_of_the_two_models(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budgets = {"policy": Budget(4000, 300.0), "ref": Budget(SMALL, 600.0)}
    judge = ModelPool.judge

    def judged(pool: ModelPool, candidate: Candidate, *more: Any) -> ScoredModel:
        found = judge(pool, candidate, *more)
        return replace(found, budget=budgets[found.role])

    monkeypatch.setattr(ModelPool, "judge", judged)
    settings = settings_with(pairs)
    plan = run(replace(settings, compute=replace(settings.compute, batch_tokens=None))).plans["policy"]
    assert plan.batch_tokens == SMALL
    assert plan.seconds == pytest.approx(plan.computed / 200)


def test_a_second_run_computes_nothing_and_another_reference_only_the_divergences(pairs: Path) -> None:
    first = run(settings_with(pairs))
    again = run(settings_with(pairs))
    assert [again.plans[role].missing for role in ("policy", "ref")] == [0, 0]
    assert again.table.equals(first.table)
    run(settings_of(POLICY, POLICY, data=pairs, batch_tokens=SMALL))
    other = run(settings_with(pairs, REF, POLICY))
    assert [other.plans[role].missing for role in ("policy", "ref")] == [SEQUENCES, 0]


def test_an_interrupted_run_resumes_and_ends_with_the_same_ledger(pairs: Path) -> None:
    whole = run(settings_with(pairs, cache="one"))
    with pytest.raises(KeyboardInterrupt):
        run(settings_with(pairs, cache="two"), interrupt_after(2))
    resumed = run(settings_with(pairs, cache="two"))
    assert 0 < resumed.plans["policy"].missing < SEQUENCES
    assert resumed.table.equals(whole.table)


def test_alternatives_the_normaliser_of_wpo_and_divergences_are_kept_in_one_run(program: Program, pairs: Path) -> None:
    options = ("--alternatives", 3, "--loss", "wpo", "--loss", "tdpo2", "-o", "all.parquet")
    assert program("score", pairs, *options)[0] == 0
    program("score", pairs, "--alternatives", 3, "--no-cache", "-o", "alternatives.parquet")
    program("score", pairs, "--kl", "--no-cache", "-o", "kl.parquet")
    program("score", pairs, "--loss", "wpo", "--no-cache", "-o", "wpo.parquet")
    every, some, kl, wpo = (load_ledger(f"{name}.parquet") for name in ("all", "alternatives", "kl", "wpo"))
    assert every.stored["chosen_kl_policy_ref"].tolist() == kl.stored["chosen_kl_policy_ref"].tolist()
    assert (
        every.stored["policy_chosen_collision_logps"].tolist() == wpo.stored["policy_chosen_collision_logps"].tolist()
    )
    ours, theirs = every.alternatives_of(0)["policy", "chosen"], some.alternatives_of(0)["policy", "chosen"]
    assert ours.ids.tolist() == theirs.ids.tolist()
    assert ours.divergences is not None
    assert theirs.divergences is None


def test_responses_without_scored_tokens_do_not_diverge(program: Program, pairs: Path) -> None:
    assert program("score", pairs, "--kl", "--max-length", 4, "--no-cache", "-o", "out.parquet")[0] == 0
    ledger = load_ledger("out.parquet")
    nothing = [at for at, flags in enumerate(ledger.stored["flags"]) if "nothing_scored" in flags]
    assert nothing
    assert {float(ledger.stored[name.name][at]) for name in DIVERGENCES for at in nothing} == {0.0}


@pytest.mark.exhaustive
def test_workers_give_the_divergences_of_one_process(pairs: Path) -> None:
    alone = run(settings_with(pairs, cache="one"))
    settings = replace(settings_with(pairs, cache="two"), dispatch=DispatchSettings(workers=2))
    assert run(settings).table.equals(alone.table)


def test_tdpo_is_computed_from_the_divergences_which_exports_and_filters_have(program: Program, pairs: Path) -> None:
    assert program("score", pairs, "--loss", "tdpo1", "-o", "out.parquet")[0] == 0
    assert program("export", "out.parquet", "-o", "out.csv", "--loss", "tdpo1:beta=0.2")[0] == 0
    with Path("out.csv").open(encoding="utf-8") as stream:
        rows = [
            {name: float(value) for name, value in row.items() if "_l" in name or "kl" in name}
            for row in csv.DictReader(stream)
        ]
    for row in rows:
        inputs = ("policy_chosen_logps", "policy_rejected_logps", "ref_chosen_logps", "ref_rejected_logps")
        columns = {name: row[name] for name in (*inputs, "chosen_kl_ref_policy", "rejected_kl_ref_policy")}
        assert row["tdpo1_loss"] == pytest.approx(tdpo1_loss(**columns, beta=0.2), rel=1e-12)
    largest = max(row["chosen_kl_policy_ref"] for row in rows)
    code, out, _ = program("export", "out.parquet", "-o", "-", "--where", f"kl_c >= {largest - 1e-9}")
    assert (code, len(out.splitlines())) == (0, 2)


def test_the_summary_gives_the_mean_divergence_per_token(program: Program, pairs: Path) -> None:
    _, out, _ = program("score", pairs, "--kl", "--json", "-o", "out.parquet")
    stored = load_ledger("out.parquet").stored
    nats, tokens = (
        sum(stored[f"{side}_{name}"].sum() for side in ("chosen", "rejected"))
        for name in ("kl_policy_ref", "num_tokens")
    )
    assert json.loads(out)["kl"] == pytest.approx(nats / tokens)
    _, out, _ = program("report", "out.parquet")
    assert re.search(r"KL\(policy‖reference\): 0\.0\d+ nats a token on average", out)


def test_without_divergences_tdpo_is_refused_with_what_to_do(program: Program, pairs: Path) -> None:
    program("score", pairs, "-o", "out.parquet")
    code, _, err = program("export", "out.parquet", "-o", "-", "--loss", "tdpo2")
    assert code == 2
    assert "loss tdpo2 needs KL divergences (score with --kl), which this ledger does not have" in err


def test_report_files_give_the_divergence_of_each_token(program: Program, pairs: Path) -> None:
    program("score", pairs, "--kl", "-o", "out.parquet")
    assert program("report", "out.parquet", "-o", "out.html")[0] == 0
    assert re.search(r'title="Δ [^"]+; KL \d\.\d\d"', Path("out.html").read_text(encoding="utf-8"))


def test_explain_gives_the_exact_divergence_instead_of_the_bound(program: Program, pairs: Path) -> None:
    program("score", pairs, "--alternatives", 3, "--kl", "-o", "out.parquet")
    _, out, _ = program("explain", "out.parquet", 0)
    assert re.search(r"KL\(policy‖reference\) adds up to \d\.\d\d nats over the chosen response and", out)
    assert "KL at least" not in out
    _, out, _ = program("explain", "out.parquet", 0, "--json")
    for token in json.loads(out)["tokens"]:
        assert token["kl"] >= token["kl_at_least"] >= 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--tp", "2"], "--kl cannot be combined with --tp, whose processes have only a slice of the vocabulary each"),
        (["--parts", "parts"], "--kl cannot be combined with --parts, whose files have no place for them"),
        (["--engine", "ray"], "--kl cannot be combined with --engine ray"),
        (["--ref", "none", "--policy", str(POLICY)], "--kl needs a reference"),
    ],
)
def test_what_divergences_cannot_be_combined_with_is_refused(
    program: Program, pairs: Path, options: list[str], named: str
) -> None:
    code, _, err = program("score", pairs, "--kl", *options)
    assert code == 2
    assert named in err


def test_models_that_do_not_fit_into_memory_together_are_refused(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_pool, "SHARE_FOR_TWO", 1e-9)
    with pytest.raises(ResourceError, match="both may not fit into memory together"):
        run(settings_with(pairs))


def test_models_that_are_computed_in_different_ways_are_refused(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = ModelPool.judge

    def differ(pool: ModelPool, candidate: Candidate, *more: Any) -> ScoredModel:
        found = judge(pool, candidate, *more)
        return replace(found, verdict=replace(found.verdict, path="packed" if found.role == "policy" else "padded"))

    monkeypatch.setattr(ModelPool, "judge", differ)
    with pytest.raises(UsageError, match="the policy is computed packed and the reference padded"):
        run(settings_with(pairs))


def test_log_probs_in_the_file_have_no_divergences(program: Program, rows: list[dict[str, Any]]) -> None:
    logps = {f"{role}_{side}_logps": -1.0 for role in ("policy", "ref") for side in ("chosen", "rejected")}
    Path("scored.jsonl").write_text(json.dumps(rows[0] | logps) + "\n", encoding="utf-8")
    code, out, err = program("score", "scored.jsonl", "--kl", "-o", "out.parquet")
    assert code == 0
    assert "no divergences are measured" in out + err
    assert not load_ledger("out.parquet").has_divergences
