"""The ledger in memory: pairs by position, and derived columns compared with numbers computed by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefscope.errors import UsageError
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.settings import LossChoice, PreferenceSettings

WIN = {"logps": (-50.0, -60.0, -52.0, -58.0)}
LOWERED = {"logps": (-50.0, -80.0, -46.0, -70.0)}  # a win by lowering both responses
TIE = {"logps": (-30.0, -40.0, -30.0, -40.0)}
NAN = {"logps": (math.nan, -40.0, -30.0, -40.0), "flags": "non_finite"}
NO_REFERENCE = {"manifest": {"has_reference": False}}


def choices(*names: str) -> tuple[LossChoice, ...]:
    return tuple(LossChoice(name) for name in names)


@pytest.fixture
def three(write_pairs: Callable[..., Path]) -> Ledger:
    return load_ledger(write_pairs([WIN, LOWERED, TIE], groups=2))


@pytest.fixture
def unreferenced(write_pairs: Callable[..., Path]) -> Ledger:
    return load_ledger(write_pairs([{"logps": (-50.0, -60.0, None, None)}], **NO_REFERENCE))


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_pair_is_found_by_position_in_any_row_group(three: Ledger, position: int) -> None:
    pair = three.pair(position)
    assert (pair["row"], pair["prompt"]) == (position, f"prompt {position}")


@pytest.mark.parametrize("position", [-1, 3])
def test_a_position_out_of_range_is_an_index_error(three: Ledger, position: int) -> None:
    with pytest.raises(IndexError):
        three.pair(position)


def test_a_pair_has_its_tokens_and_their_log_probs(write_pairs: Callable[..., Path]) -> None:
    tokens: dict[str, Any] = {
        "chosen_num_tokens": 2,
        "rejected_num_tokens": 0,
        "chosen_tokens": ["a", "\\xe2"],
        "rejected_tokens": [],
        "policy_chosen_token_logps": [-0.5, -1.5],
        "policy_rejected_token_logps": [],
        "ref_chosen_token_logps": [-1.0, -2.0],
        "ref_rejected_token_logps": [],
    }
    ledger = load_ledger(write_pairs([WIN | tokens]))
    assert ledger.has_tokens
    assert {name: ledger.pair(0)[name] for name in tokens} == tokens


def test_a_ledger_may_have_no_tokens(three: Ledger) -> None:
    assert not three.has_tokens


def test_texts_are_read_in_row_order(three: Ledger) -> None:
    assert [group["chosen"] for group in three.read(["chosen"])] == [["chosen 0", "chosen 1"], ["chosen 2"]]


def test_derived_columns_equal_values_computed_by_hand(three: Ledger) -> None:
    """Golden vectors A and B of Rafailov's loss at beta 0.1, and a tie: log-ratios 2, −2; −4, −10; 0, 0."""
    derived = three.derived(PreferenceSettings(beta=0.1))
    expected = {
        "chosen_logratios": [2.0, -4.0, 0.0],
        "rejected_logratios": [-2.0, -10.0, 0.0],
        "chosen_rewards": [0.2, -0.4, 0.0],
        "rejected_rewards": [-0.2, -1.0, 0.0],
        "margins": [0.4, 0.6, 0.0],
        "dpo_loss": [0.513015, 0.437488, math.log(2)],
        "ipo_loss": [92.16, 88.36, 100.0],
        "simpo_loss": [1.701413, 0.779949, math.log1p(math.exp(5 / 6))],  # 2·(−1.5 + 4/3) − 0.5 = −5/6
    }
    assert list(derived) == [*list(expected)[:5], "outcome", *list(expected)[5:]]
    for name, values in expected.items():
        np.testing.assert_allclose(derived[name], values, rtol=0, atol=1e-6, err_msg=name)
    assert derived["outcome"].tolist() == ["win", "win", "tie"]


def test_rewards_scale_with_beta_and_log_ratios_do_not(three: Ledger) -> None:
    derived = three.derived(PreferenceSettings(beta=0.5, losses=choices("dpo")))
    assert derived["chosen_logratios"].tolist() == [2.0, -4.0, 0.0]
    assert derived["margins"].tolist() == [2.0, 3.0, 0.0]
    np.testing.assert_allclose(derived["dpo_loss"], [math.log1p(math.exp(-m)) for m in (2, 3, 0)])


def test_weights_follow_the_losses_on_request(three: Ledger) -> None:
    derived = three.derived(PreferenceSettings(losses=choices("simpo", "dpo"), weights=True))
    assert list(derived)[-4:] == ["simpo_loss", "dpo_loss", "simpo_weight", "dpo_weight"]
    np.testing.assert_allclose(derived["dpo_weight"], [0.0401312, 0.0354344, 0.05], atol=1e-7)  # beta·σ(−margin)


def test_parameters_of_a_loss_override_the_common_beta(three: Ledger) -> None:
    loss = LossChoice("dpo", {"beta": 0.2, "label_smoothing": 0.1})
    derived = three.derived(PreferenceSettings(beta=0.1, losses=(loss,)))
    expected = [0.9 * math.log1p(math.exp(-m)) + 0.1 * math.log1p(math.exp(m)) for m in (0.8, 1.2, 0.0)]
    np.testing.assert_allclose(derived["dpo_loss"], expected)
    np.testing.assert_allclose(derived["margins"], [0.4, 0.6, 0.0])


def test_only_simpo_remains_of_the_default_losses_without_a_reference(unreferenced: Ledger) -> None:
    assert list(unreferenced.derived(PreferenceSettings())) == ["simpo_loss"]


@pytest.mark.parametrize("name", ["dpo", "ipo", "ipo_azar", "ipo_trl"])
def test_a_requested_loss_that_needs_a_missing_reference_is_refused(unreferenced: Ledger, name: str) -> None:
    told = f"{unreferenced.path}: loss {name} needs a reference"
    with pytest.raises(UsageError, match=re.escape(told)):
        unreferenced.derived(PreferenceSettings(losses=choices("simpo", name), explicit=True))


def test_a_default_loss_that_is_not_usable_is_left_out_whatever_its_parameters(unreferenced: Ledger) -> None:
    losses = (LossChoice("dpo"), LossChoice("simpo", {"beta": 2.5, "gamma": 1.4}))
    assert list(unreferenced.derived(PreferenceSettings(losses=losses))) == ["simpo_loss"]


def test_simpo_is_refused_on_request_without_token_counts(write_pairs: Callable[..., Path]) -> None:
    ledger = load_ledger(write_pairs([WIN | {"rejected_num_tokens": -1}]))
    with pytest.raises(UsageError, match="loss simpo needs token counts, which this ledger does not have"):
        ledger.derived(PreferenceSettings(losses=choices("simpo"), explicit=True))


def test_simpo_is_left_out_without_token_counts(write_pairs: Callable[..., Path]) -> None:
    uncounted = {"chosen_num_tokens": -1, "rejected_num_tokens": -1}
    ledger = load_ledger(write_pairs([WIN, TIE | uncounted]))
    assert [choice.name for choice in ledger.usable_losses(PreferenceSettings())] == ["dpo", "ipo"]


def test_the_same_loss_twice_is_refused(three: Ledger) -> None:
    with pytest.raises(UsageError, match="Loss dpo is named twice"):
        three.derived(PreferenceSettings(losses=choices("dpo", "dpo")))


def test_a_nan_log_prob_affects_only_its_own_pair(write_pairs: Callable[..., Path]) -> None:
    derived = load_ledger(write_pairs([WIN, NAN])).derived(PreferenceSettings())
    assert derived["outcome"].tolist() == ["win", ""]
    for name in ("chosen_rewards", "margins", "dpo_loss", "ipo_loss", "simpo_loss"):
        assert np.isnan(derived[name]).tolist() == [False, True], name
    assert derived["rejected_rewards"].tolist() == pytest.approx([-0.2, 0.0])


def test_the_data_frame_equals_the_flat_table(write_pairs: Callable[..., Path]) -> None:
    extra = {"category": ("text", ["a", None]), "score": ("integer", [1, 2])}
    ledger = load_ledger(write_pairs([WIN, NAN], extra=extra))
    frame = ledger.to_pandas(beta=0.5, losses=choices("dpo"), texts=True)
    assert list(frame.columns) == [
        *("row", "pair_id", "category", "score"),
        *("policy_chosen_logps", "policy_rejected_logps", "ref_chosen_logps", "ref_rejected_logps"),
        *("chosen_num_tokens", "rejected_num_tokens", "chosen_logratios", "rejected_logratios"),
        *("chosen_rewards", "rejected_rewards", "margins", "outcome", "dpo_loss", "flags"),
        *("prompt", "chosen", "rejected"),
    ]
    assert frame["margins"][0] == 2.0
    assert np.isnan(frame["margins"][1])
    assert frame["category"].isna().tolist() == [False, True]
    assert frame["flags"].tolist() == ["", "non_finite"]
    assert frame["rejected"].tolist() == ["rejected 0", "rejected 1"]


def test_the_data_frame_has_the_pairs_of_every_row_group_in_order(three: Ledger) -> None:
    frame = three.to_pandas(texts=True)
    assert frame["prompt"].tolist() == ["prompt 0", "prompt 1", "prompt 2"]
    assert frame["margins"].tolist() == pytest.approx([0.4, 0.6, 0.0])


@pytest.mark.parametrize("name", ["aot", "aot_unpaired", "kto", "bco", "sft", "cpo", "orpo", "rpo"])
def test_a_loss_over_all_pairs_covers_the_whole_ledger_whatever_is_selected(three: Ledger, name: str) -> None:
    preferences = PreferenceSettings(losses=choices(name), weights=True)
    whole, picked = three.derived(preferences), three.only(np.array([False, True, True])).derived(preferences)
    for column in (f"{name}_loss", f"{name}_weight"):
        assert picked[column].tolist() == whole[column][1:].tolist()


def test_a_pair_without_log_probs_is_excluded_from_a_loss_over_all_pairs(write_pairs: Callable[..., Path]) -> None:
    preferences = PreferenceSettings(losses=choices("aot", "kto", "sft"))
    clean = load_ledger(write_pairs([WIN, LOWERED], name="clean.parquet")).derived(preferences)
    found = load_ledger(write_pairs([WIN, NAN, LOWERED], name="with-nan.parquet")).derived(preferences)
    for column in ("aot_loss", "kto_loss", "sft_loss"):
        assert found[column][[0, 2]].tolist() == clean[column].tolist()
        assert math.isnan(found[column][1])
