"""Similar prompts are found by the words that they share, weighted by how rare they are."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from prefscope.report.nearest import PROMPT_CHARACTERS, PromptIndex
from tests.tui.pairs_app import write_pairs


def index(path: Path, *prompts: str, group: int = 500) -> PromptIndex:
    return PromptIndex(write_pairs(path / "x.parquet", [{"prompt": text} for text in prompts], group=group).ledger)


def test_a_similarity_is_the_weight_of_shared_words_in_that_of_all_words(tmp_path: Path) -> None:
    found = index(tmp_path, "boil an egg", "drive a car", "Boil an egg, now!").nearest(0)
    shared, own = 3 * math.log(4 / 2), math.log(4 / 1)
    assert [one.position for one in found] == [2]
    assert found[0].similarity == pytest.approx(shared / (shared + own))


def test_the_most_similar_prompts_come_first_and_copies_are_wholly_alike(tmp_path: Path) -> None:
    prompts = ["a b c d", "a b x y", "a b c d", "a b c z", "q r s t"]
    found = index(tmp_path, *prompts).nearest(0, most=2)
    assert [one.position for one in found] == [2, 3]
    assert found[0].similarity == 1.0


def test_row_groups_do_not_matter(tmp_path: Path) -> None:
    prompts = [f"word{number % 7} other{number % 5} third{number % 3}" for number in range(50)]
    one, many = index(tmp_path, *prompts), index(tmp_path, *prompts, group=4)
    assert [one.nearest(at) for at in range(50)] == [many.nearest(at) for at in range(50)]


def test_scripts_without_spaces_are_compared_by_character(tmp_path: Path) -> None:
    found = index(tmp_path, "怎么煮鸡蛋", "怎么开汽车呢", "煮鸡蛋").nearest(0)
    assert [one.position for one in found] == [2]


def test_only_the_end_of_a_long_prompt_counts(tmp_path: Path) -> None:
    found = index(tmp_path, "same " * PROMPT_CHARACTERS + "egg", "egg", "same")
    assert [one.position for one in found.nearest(2)] == [0]
    far = index(tmp_path, "egg " + "x " * PROMPT_CHARACTERS, "egg", "x")
    assert far.nearest(1) == []


@pytest.mark.parametrize("prompts", [[""], ["", ""], ["only"], ["?", "!"]])
def test_prompts_without_shared_words_have_no_neighbours(tmp_path: Path, prompts: list[str]) -> None:
    assert index(tmp_path, *prompts).nearest(0) == []
