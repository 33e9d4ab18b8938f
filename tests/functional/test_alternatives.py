"""Runs with --alternatives: what they keep, reuse, refuse and show; log-probs are those of other runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from prefscope.data.records import PreferencePair
from prefscope.errors import UsageError
from prefscope.ledger.columns import ALTERNATIVES, LOGPS, RANK_COLUMNS, TOKEN_LOGPS
from prefscope.ledger.table import load_ledger
from prefscope.ledger.view import View
from prefscope.scoring.tokenization import PairTokenizer, TokenizedPair
from prefscope.settings import DispatchSettings, PreferenceSettings, ScoreSettings, TokenizationSettings
from tests.functional.runs import interrupt_after, run, settings_of

pytestmark = pytest.mark.slow

Program = Callable[..., tuple[int, str, str]]
NAMES = [column.name for column in ALTERNATIVES]
PAIRS, SEQUENCES = 6, 10
SMALL = 64
"""Tokens of a batch, for several batches."""


def settings_with(data: Path, count: int, cache: str = "cache") -> ScoreSettings:
    settings = settings_of(data=data, batch_tokens=SMALL, cache=cache)
    return replace(settings, compute=replace(settings.compute, alternatives=count))


def test_a_ledger_has_the_top_tokens_of_a_plain_forward_pass(
    program: Program, bundled_pairs: list[PreferencePair], samples: Path
) -> None:
    options = ("--limit", 1, "--alternatives", 3, "-o", "out.parquet")
    assert program("score", samples / "pairs.jsonl", *options)[0] == 0
    ledger = load_ledger("out.parquet")
    kept = ledger.alternatives_of(0)["ref", "rejected"]
    tokenizer = AutoTokenizer.from_pretrained(samples / "tiny-ref")
    model = AutoModelForCausalLM.from_pretrained(samples / "tiny-ref", dtype=torch.float64)
    (item,) = PairTokenizer(tokenizer, TokenizationSettings(), None, frozenset()).tokenize(bundled_pairs[:1])
    assert isinstance(item, TokenizedPair)
    ids = torch.from_numpy(item.rejected.token_ids.astype(np.int64))[None]
    with torch.inference_mode():
        logps = model(ids).logits[0].log_softmax(-1)[-len(kept.ranks) - 1 : -1]
    top = logps.topk(3)
    assert kept.ids.tolist() == top.indices.tolist()
    assert kept.logps == pytest.approx(top.values.numpy(), rel=2e-3)
    assert kept.entropies == pytest.approx((-(logps.exp() * logps).sum(-1)).numpy(), abs=1e-3)
    actual = logps.gather(-1, ids[0, -len(kept.ranks) :, None])
    assert kept.ranks.tolist() == ((logps > actual).sum(-1) + 1).tolist()
    first = kept.at(0)
    assert first.texts == tuple(tokenizer.decode([one]) for one in first.ids)


def test_all_other_columns_and_the_keys_of_the_store_are_those_of_a_run_without(pairs: Path) -> None:
    without = run(settings_with(pairs, 0, "one"))
    with_ = run(settings_with(pairs, 5, "two"))
    assert with_.table.drop_columns(NAMES).equals(without.table)
    assert run(settings_with(pairs, 0, "two")).plans["policy"].missing == 0


def test_a_run_with_alternatives_computes_what_a_run_without_or_with_fewer_did_not_keep(pairs: Path) -> None:
    run(settings_with(pairs, 0))
    assert run(settings_with(pairs, 2)).plans["ref"].missing == SEQUENCES
    assert run(settings_with(pairs, 3)).plans["ref"].missing == SEQUENCES
    again = run(settings_with(pairs, 2))
    assert [again.plans[role].missing for role in ("policy", "ref")] == [0, 0]


def test_an_interrupted_run_resumes_and_ends_with_the_same_ledger(pairs: Path) -> None:
    whole = run(settings_with(pairs, 4, "one"))
    with pytest.raises(KeyboardInterrupt):
        run(settings_with(pairs, 4, "two"), interrupt_after(2))
    resumed = run(settings_with(pairs, 4, "two"))
    assert resumed.plans["policy"].resumed
    assert 0 < resumed.plans["policy"].missing < SEQUENCES
    assert resumed.table.equals(whole.table)


def test_alternatives_and_the_normaliser_of_wpo_are_kept_in_one_run(program: Program, pairs: Path) -> None:
    program("score", pairs, "--alternatives", 2, "--loss", "wpo", "-o", "both.parquet")
    program("score", pairs, "--loss", "wpo", "-o", "wpo.parquet")
    both, wpo = load_ledger("both.parquet"), load_ledger("wpo.parquet")
    name = "policy_chosen_collision_logps"
    assert both.stored[name].tolist() == wpo.stored[name].tolist()
    assert both.alternatives == 2


@pytest.mark.parametrize("count", [0, 2])
def test_responses_without_scored_tokens_have_no_alternatives(program: Program, pairs: Path, count: int) -> None:
    options = ("--max-length", 4, "--no-cache", "-o", "out.parquet")
    assert program("score", pairs, "--alternatives", count, *options)[0] == 0
    ledger = load_ledger("out.parquet")
    nothing = [at for at, flags in enumerate(ledger.stored["flags"]) if "nothing_scored" in flags]
    assert nothing
    kept = [len(one.ranks) for at in nothing for one in ledger.alternatives_of(at).values()]
    assert kept == [0] * (4 * len(nothing) if count else 0)
    if count:
        assert np.isnan(ledger.stored["rank_policy"][nothing]).all()


@pytest.mark.exhaustive
def test_workers_keep_the_alternatives_of_one_process(pairs: Path) -> None:
    alone = run(settings_with(pairs, 5, "one"))
    settings = replace(settings_with(pairs, 5, "two"), dispatch=DispatchSettings(workers=2))
    assert run(settings).table.equals(alone.table)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--tp", "2"], "--tp, whose processes have only a slice of the vocabulary each"),
        (["--parts", "parts"], "--parts, whose files have no place for them"),
        (["--engine", "ray"], "--engine ray"),
        (["--no-tokens"], "--no-tokens"),
    ],
)
def test_what_alternatives_cannot_be_combined_with_is_refused(
    program: Program, pairs: Path, options: list[str], named: str
) -> None:
    code, _, err = program("score", pairs, "--alternatives", 5, *options)
    assert code == 2
    assert f"--alternatives cannot be combined with {named}" in err


@pytest.mark.parametrize(("count", "limit"), [(-1, "greater than or equal to 0"), (21, "less than or equal to 20")])
def test_a_number_of_alternatives_out_of_range_is_refused(
    program: Program, pairs: Path, count: int, limit: str
) -> None:
    code, _, err = program("score", pairs, f"--alternatives={count}")
    assert code == 2
    assert f"'--alternatives': Input should be {limit}" in err


def test_a_number_out_of_range_is_refused_in_python_too(pairs: Path) -> None:
    with pytest.raises(UsageError, match="must be from 0 to 20"):
        run(settings_with(pairs, 21))


def test_filters_find_the_pairs_with_a_token_of_a_large_rank(program: Program, pairs: Path) -> None:
    program("score", pairs, "--alternatives", 1, "-o", "out.parquet")
    ledger = load_ledger("out.parquet")
    largest = [
        max(int(ledger.alternatives_of(at)["policy", side].ranks.max()) for side in ("chosen", "rejected"))
        for at in range(PAIRS)
    ]
    view = View(ledger, PreferenceSettings())
    middle = sorted(largest)[PAIRS // 2]
    assert view.filter(f"rank_policy > {middle}").tolist() == [one > middle for one in largest]
    assert View(ledger.only(np.arange(PAIRS) > 2), PreferenceSettings()).column("rank_policy").tolist() == largest[3:]


def test_without_a_reference_only_the_policy_has_alternatives(program: Program, pairs: Path) -> None:
    program(
        "score", pairs, "--alternatives", 2, "--ref", "none", "--policy", settings_of().models.policy, "-o", "a.parquet"
    )
    ledger = load_ledger("a.parquet")
    assert {role for role, _ in ledger.alternatives_of(0)} == {"policy"}
    kinds = View(ledger, PreferenceSettings()).names.kinds
    assert [name in kinds for name in RANK_COLUMNS] == [True, False]


def test_explain_and_reports_say_what_the_models_would_have_said(program: Program, pairs: Path) -> None:
    program("score", pairs, "--alternatives", 2, "-o", "out.parquet")
    _, out, _ = program("explain", "out.parquet", 0)
    assert "Alternatives" in out
    found = json.loads(program("explain", "out.parquet", 0, "--json")[1])["tokens"]
    assert len(found) == 6
    assert [len(one[role]["alternatives"]) for one in found for role in ("policy", "ref")] == [2] * 12
    assert all(one["kl_at_least"] >= 0 and one["policy"]["rank"] >= 1 for one in found)
    program("report", "out.parquet", "-o", "out.html")
    page = Path("out.html").read_text(encoding="utf-8")
    assert "; policy (rank " in page
    assert "; reference (rank " in page
    assert "; KL ≥ " in page


def test_ledgers_without_alternatives_have_none_of_their_columns(program: Program, pairs: Path) -> None:
    program("score", pairs, "-o", "out.parquet")
    ledger = load_ledger("out.parquet")
    assert (ledger.alternatives, ledger.alternatives_of(0)) == (0, {})
    assert not {*NAMES, *RANK_COLUMNS} & View(ledger, PreferenceSettings()).names.kinds.keys()
    assert {*ledger.pair(0)} >= {*LOGPS, *TOKEN_LOGPS}
    assert json.loads(program("explain", "out.parquet", 0, "--json")[1])["tokens"] == []
