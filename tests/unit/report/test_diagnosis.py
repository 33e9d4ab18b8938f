"""Diagnosis, subsets and suspects; expressions select the pairs that findings are about."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefscope.errors import UsageError
from prefscope.ledger.table import load_ledger
from prefscope.ledger.view import View
from prefscope.preference.diagnostics import DIAGNOSTICS
from prefscope.report.diagnosis import Diagnosis, diagnose
from prefscope.report.examination import examine
from prefscope.report.split_noise import noise_by_split
from prefscope.report.subsets import Grouping, group_by, groupable
from prefscope.report.suspects import suspects
from prefscope.settings import LossChoice, PreferenceSettings

WIN = {"logps": (-50.0, -60.0, -52.0, -58.0)}  # margin 0.4
LOWERED = {"logps": (-50.0, -80.0, -46.0, -70.0)}  # 0.6
LOSS = {"logps": (-50.0, -60.0, -50.0, -63.0)}  # −0.3
NAN = {"logps": (math.nan, -40.0, -30.0, -43.0), "flags": "non_finite"}
Write = Callable[..., Path]


def view_of(path: Path, preferences: PreferenceSettings | None = None) -> View:
    return View(load_ledger(path), preferences or PreferenceSettings())


@pytest.fixture(scope="module")
def demo(samples: Path) -> View:
    return view_of(samples / "demo.parquet")


@pytest.fixture(scope="module")
def diagnosis(demo: View) -> Diagnosis:
    return diagnose(demo)


def test_the_diagnosis_has_every_finding_in_order(diagnosis: Diagnosis) -> None:
    assert [one.diagnostic.name for one in diagnosis.findings] == [*DIAGNOSTICS]


def test_every_expression_of_a_finding_finds_pairs_as_many_as_it_counts(demo: View, diagnosis: Diagnosis) -> None:
    found = {one.diagnostic.name: one for one in diagnosis.findings if one.expression}
    counts = {name: int(demo.filter(one.expression).sum()) for name, one in found.items()}
    figures: dict[str, Any] = {name: one.figures for name, one in found.items()}
    assert counts["displacement"] == figures["displacement"].won_by_lowering_both
    assert counts["gradient_weights"] >= figures["gradient_weights"].carriers
    assert counts["calibration"] == 14
    assert counts["flips"] == figures["flips"].suspects == 9
    assert set(counts) == {"displacement", "length_bias", "ranking", "calibration", "flips", "gradient_weights"}


def test_the_suspects_of_a_scope_are_those_that_its_finding_counts(demo: View) -> None:
    scope = demo.only(demo.column("chosen_num_tokens") < 60)
    (found,) = [one for one in diagnose(scope, tokens=False).findings if one.diagnostic.name == "flips"]
    figures: Any = found.figures
    assert scope.filter(found.expression).sum() == figures.suspects > 0


def test_a_pair_that_is_not_finite_is_left_out_and_counted(write_pairs: Write) -> None:
    found = diagnose(view_of(write_pairs([WIN, LOWERED, NAN])))
    assert (found.pairs, found.left_out) == (2, 1)
    assert {one.figures.pairs for one in found.findings} == {2}  # type: ignore[attr-defined]


def test_gradient_weights_are_those_of_the_first_loss(write_pairs: Write) -> None:
    view = view_of(write_pairs([WIN, LOSS]), PreferenceSettings(losses=(LossChoice("hinge"),)))
    (found,) = (one for one in diagnose(view).findings if one.diagnostic.name == "gradient_weights")
    assert found.expression.startswith("abs(hinge_weight) >= ")


def test_without_a_reference_there_are_only_gradient_weights(write_pairs: Write) -> None:
    path = write_pairs([{"logps": (-50.0, -60.0, None, None)}], manifest={"has_reference": False})
    assert [one.diagnostic.name for one in diagnose(view_of(path)).findings] == ["gradient_weights"]


def test_tokens_are_read_only_if_wanted(demo: View) -> None:
    assert "concentration" not in {one.diagnostic.name for one in diagnose(demo, tokens=False).findings}


def test_json_has_only_finite_numbers(write_pairs: Write) -> None:
    found = examine(view_of(write_pairs([WIN, LOWERED]))).to_json()
    assert found["diagnosis"]["calibration"]["best_beta"] is None
    assert "no finite best beta" in found["diagnosis"]["calibration"]["figure"]


def test_a_base_that_is_scored_against_its_adapter_is_found_by_the_manifest(write_pairs: Write) -> None:
    def reference_of(policy: dict[str, Any], ref: dict[str, Any]) -> str:
        path = write_pairs([WIN, WIN], manifest={"models": {"policy": policy, "ref": ref}})
        (found,) = [one for one in diagnose(view_of(path)).findings if one.diagnostic.name == "reference"]
        return found.conclusion.sentence

    adapter, base = {"name": "dpo", "base": "smol"}, {"name": "smol", "base": None}
    assert "base of the reference" in reference_of(base, adapter)
    assert "base of the reference" not in reference_of(adapter, base)
    assert "base of the reference" not in reference_of({"name": "dpo", "base": "smol"}, adapter)


def test_a_selection_of_wrong_pairs_does_not_look_like_exchanged_models(demo: View) -> None:
    scope = demo.only(demo.column("margins") < 0)
    (found,) = [one for one in diagnose(scope, tokens=False).findings if one.diagnostic.name == "reference"]
    assert (found.conclusion.figure, found.conclusion.warns) == ("0.0% (0–22) right", False)


def test_a_loss_that_is_saturated_is_found_beside_its_first_gradient(write_pairs: Write) -> None:
    far = [{"logps": (-50.0, -140.0 - more, -52.0, -58.0)} for more in range(5)]  # margins from 8.4 on
    (found,) = [
        one for one in diagnose(view_of(write_pairs(far))).findings if one.diagnostic.name == "gradient_weights"
    ]
    assert found.conclusion.warns
    assert found.figures.relative == pytest.approx(3.72e-4, rel=0.01)  # type: ignore[attr-defined]


# Columns


def test_columns_of_the_diagnosis_can_be_filtered_by(write_pairs: Write) -> None:
    view = view_of(write_pairs([WIN, LOWERED, LOSS, NAN]))
    assert view.column("quadrant").tolist() == ["up_down", "down_down", "still", ""]
    assert view.filter('quadrant == "down_down"').tolist() == [False, True, False, False]
    assert view.filter("flip_posterior > 0").tolist() == [True, True, True, False]


def test_terms_over_all_pairs_stay_the_same_in_a_selection(demo: View) -> None:
    few = demo.filter("margins > 0.2")
    part = View(demo.ledger.only(few), PreferenceSettings())
    for name in ("flip_posterior", "residual_margins"):
        assert np.array_equal(part.column(name), demo.column(name)[few])


def test_a_data_set_column_of_the_same_name_does_not_replace_ours(write_pairs: Write) -> None:
    path = write_pairs([WIN, LOSS], extra={"quadrant": ("text", ["north", "south"])})
    assert view_of(path).column("data_quadrant").tolist() == ["north", "south"]
    assert view_of(path).column("quadrant").tolist() == ["up_down", "still"]


def test_pairs_are_not_grouped_by_a_name_that_could_be_ours_or_the_data_sets(write_pairs: Write) -> None:
    view = view_of(write_pairs([WIN, LOSS], extra={"margin": ("number", [1.0, 2.0])}))
    with pytest.raises(UsageError, match="Write margins for prefscope's column, data_margin for the data set's"):
        group_by(view, "margin")
    assert group_by(view, "data_margin").column == "data_margin"


# Subsets


def labels(grouping: Grouping) -> list[tuple[str, int]]:
    return [(one.label, one.subset.pairs) for one in grouping.groups]


def checked(view: View, name: str) -> Grouping:
    """Return the subsets by a column, of which every expression finds the pairs of its group."""
    found = group_by(view, name)
    assert [int(view.filter(one.expression).sum()) for one in found.groups if one.expression] == [
        one.subset.pairs for one in found.groups if one.expression
    ]
    return found


def test_groups_of_a_text_are_its_values_the_largest_first(write_pairs: Write) -> None:
    texts = ["b", "a", 'a "quoted\\', "b", "", "b"]
    found = checked(view_of(write_pairs([WIN] * 6, extra={"odd name": ("text", texts)})), "odd name")
    assert labels(found) == [("b", 3), ("(none)", 1), ("a", 1), ('a "quoted\\', 1)]
    assert all(one.expression for one in found.groups)


def test_a_value_of_two_lines_has_no_expression(write_pairs: Write) -> None:
    found = group_by(view_of(write_pairs([WIN, LOSS], extra={"x": ("text", ["a\nb", "c"])})), "x")
    assert [(one.label, one.expression) for one in found.groups] == [("a\nb", ""), ("c", 'x == "c"')]


def test_groups_beyond_the_twenty_largest_are_taken_together(write_pairs: Write) -> None:
    texts = [f"v{at:02}" for at in range(22)] * 2 + ["v00"]
    found = checked(view_of(write_pairs([WIN] * 45, extra={"x": ("text", texts)})), "x")
    assert labels(found)[:2] == [("v00", 3), ("v01", 2)]
    assert labels(found)[-1] == ("others (2 values)", 4)


def test_few_numbers_are_grouped_by_value_and_many_by_five_ranges(write_pairs: Write) -> None:
    few, many = [1.0, 2.0, None] * 5, [float(at) for at in range(14)]
    view = view_of(write_pairs([WIN] * 15, extra={"few": ("number", few), "many": ("number", [*many, None])}))
    assert labels(checked(view, "few")) == [("(none)", 5), ("1", 5), ("2", 5)]
    assert labels(checked(view, "many")) == [
        ("below 2", 2),
        ("2 to below 5", 3),
        ("5 to below 8", 3),
        ("8 to below 11", 3),
        ("11 and above", 3),
        ("(none)", 1),
    ]


def test_groups_of_a_condition_are_true_and_false(write_pairs: Write) -> None:
    view = view_of(write_pairs([WIN, LOSS, LOSS], extra={"hard": ("boolean", [True, False, False])}))
    assert labels(checked(view, "hard")) == [("false", 2), ("true", 1)]


def test_a_subset_has_the_accuracy_and_the_margin_of_its_pairs(write_pairs: Write) -> None:
    view = view_of(write_pairs([WIN, LOSS, LOWERED, NAN], extra={"x": ("text", ["a", "a", "b", "a"])}))
    first, second = (one.subset for one in group_by(view, "x").groups)
    assert [(one.pairs, one.accuracy) for one in (first, second)] == [(2, 0.5), (1, 1.0)]
    assert [first.margin, second.margin] == pytest.approx([0.05, 0.6])


def test_a_column_can_be_named_by_its_alias(demo: View) -> None:
    assert (group_by(demo, "len_c").column, group_by(demo, "len_c").title) == ("chosen_num_tokens", "len_c")


def test_an_unknown_column_is_refused_with_suggestions(demo: View) -> None:
    with pytest.raises(UsageError, match=r"There is no column 'spilt' to group by\. Try split"):
        group_by(demo, "spilt")


def test_columns_of_many_values_or_of_single_pairs_are_not_grouped_by_default(demo: View) -> None:
    assert groupable(demo) == ["category", "split"]


# Suspects


def test_suspects_are_the_pairs_ranked_wrong_the_worst_first(write_pairs: Write) -> None:
    worse = {"logps": (-50.0, -60.0, -50.0, -69.0)}
    found = suspects(view_of(write_pairs([LOSS, WIN, worse, NAN])))
    assert [(one.row, round(one.margin, 6)) for one in found] == [(2, -0.9), (0, -0.3)]
    assert found[0].posterior > found[1].posterior


def test_suspects_know_their_copies_and_contradictions(write_pairs: Write) -> None:
    texts = {"prompt": "p", "chosen": "x", "rejected": "y"}
    swapped = {"prompt": "p", "chosen": "y", "rejected": "x"}
    (found,) = suspects(view_of(write_pairs([LOSS | texts, WIN | texts, WIN | swapped, WIN])))
    assert (found.copies, found.contradictions) == ((1,), (2,))


def test_an_identical_pair_contradicts_no_copy_of_its_own(write_pairs: Write) -> None:
    same = {"prompt": "p", "chosen": "x", "rejected": "x"}
    (found,) = suspects(view_of(write_pairs([LOSS | same, WIN | same])))
    assert (found.copies, found.contradictions) == ((1,), ())


# Splits


def test_the_label_noise_of_each_split_is_that_of_its_pairs_alone(demo: View) -> None:
    held_out, train = noise_by_split(demo)
    assert [(one.split, one.is_trained, one.figures.pairs) for one in (held_out, train)] == [
        ("held_out", False, 44),
        ("train", True, 126),
    ]
    assert train.figures == DIAGNOSTICS["flips"].measure(
        *(demo.column(name)[demo.column("split") == "train"] for name in DIAGNOSTICS["flips"].inputs)
    )


def test_flips_of_a_training_split_are_said_to_be_out_of_reach(demo: View) -> None:
    (table,) = examine(demo).split_tables()
    assert table.note.startswith("Flipped labels that the policy was trained on are out of reach")
    (held_out,) = examine(demo.only(demo.column("split") == "held_out")).split_tables()
    assert held_out.note == ""


def test_without_a_split_column_the_split_is_the_one_that_was_read(write_pairs: Write) -> None:
    manifest = {"settings": {"data": {"split": "train_prefs"}}}
    (found,) = noise_by_split(view_of(write_pairs([WIN, LOSS], manifest=manifest)))
    assert (found.split, found.is_trained, found.figures.pairs) == ("train_prefs", True, 2)
    assert noise_by_split(view_of(write_pairs([WIN, LOSS]))) == ()


def test_the_suspects_of_a_scope_are_corrected_for_length_as_in_its_finding(write_pairs: Write) -> None:
    draw = np.random.default_rng(0)
    quality, longer = draw.normal(0, 3, 400), draw.normal(0, 60, 400).round()
    right = draw.random(400) < 1 / (1 + np.exp(-quality))
    sign = np.where(right ^ (np.arange(400) < 40), 1, -1)
    rows = [
        {"logps": (gap, 0.0, 0.0, 0.0), "chosen_num_tokens": 500 + extra, "rejected_num_tokens": 500}
        for gap, extra in zip(
            (sign * (quality + longer / 10)).tolist(), (sign * longer).astype(int).tolist(), strict=True
        )
    ]
    scope = view_of(write_pairs([*rows, WIN])).only(np.arange(401) < 400)
    (found,) = [one for one in diagnose(scope, tokens=False).findings if one.diagnostic.name == "flips"]
    figures: Any = found.figures
    assert "num_tokens" in found.expression
    assert scope.filter(found.expression).sum() == figures.suspects > 0
