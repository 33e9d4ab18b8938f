"""What libraries are told in the processes of the program."""

from __future__ import annotations

import pytest

from prefscope.environment import QUIET, quieted


@pytest.mark.parametrize(("chosen", "told"), [({}, "true"), ({"TOKENIZERS_PARALLELISM": "false"}, "false")])
def test_a_choice_of_fewer_threads_is_kept(chosen: dict[str, str], told: str) -> None:
    assert quieted(chosen)["TOKENIZERS_PARALLELISM"] == told


def test_progress_bars_and_messages_are_off_whatever_the_user_set() -> None:
    loud = {"TRANSFORMERS_VERBOSITY": "info", "TQDM_DISABLE": "0", "OTHER": "kept"}
    assert quieted(loud) == {"TOKENIZERS_PARALLELISM": "true", **QUIET, "OTHER": "kept"}
