"""Keys from prefscope.toml: those that work, and those that are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from prefscope.errors import UsageError
from prefscope.tui.keymap import TOGETHER, _bindings, checked_keys
from prefscope.tui.model.session import Session
from tests.tui.terminal import Terminal

Show = Callable[..., Terminal]


def test_a_user_defined_key_replaces_the_default_and_is_shown(show_app: Show, demo: Session) -> None:
    terminal = show_app(keys=checked_keys({"pairs-open": "f5", "pair-mark": ["X"]}))
    terminal.press("2")
    assert " f5 Open " in terminal.lines[-1]
    terminal.press("X", "space")  # space does nothing now
    assert demo.mark_of(0).decision == "keep"


def test_keys_can_be_given_as_characters_or_names() -> None:
    assert checked_keys({"help": ["!", "f2"]}) == {"help": "exclamation_mark,f2"}


def test_ids_of_earlier_releases_still_work() -> None:
    assert checked_keys({"pairs-former-wrong": "f5"}) == {"pairs-previous-wrong": "f5"}


def test_every_binding_can_be_given_another_key() -> None:
    assert [one.description for nodes in TOGETHER for one in _bindings(nodes) if not one.id] == []


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"pairs-sart": "f5"}, "no binding has the id 'pairs-sart'. Similar ids: 'pairs-sort'"),
        ({"pairs-sort": "e"}, "pairs-sort and export would have the same key 'e'"),
        ({"export": "s"}, "export and pairs-sort would have the same key 's'"),
        ({"pairs-sort": "f5", "pairs-open": "f5"}, "pairs-sort and pairs-open would have the same key 'f5'"),
        (
            {"pairs-former-wrong": "f5", "pairs-previous-wrong": "f6"},
            "pairs-previous-wrong is set twice, once by its old name",
        ),
        ({"pairs-sort": 5}, "pairs-sort needs a key or a list of keys"),
        ({"pairs-sort": []}, "pairs-sort needs a key or a list of keys"),
    ],
    ids=["unknown", "of a screen", "of a widget", "given twice", "old and new name", "a number", "none"],
)
def test_invalid_keys_are_reported(keys: Mapping[str, object], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_keys(keys)
    assert f"prefscope.toml [keys]: {told}" in str(caught.value)


def test_two_keys_can_be_swapped() -> None:
    assert checked_keys({"pairs-sort": "n", "pairs-next-wrong": "s"}) == {"pairs-sort": "n", "pairs-next-wrong": "s"}


def test_bindings_that_are_never_active_together_may_share_a_key() -> None:
    assert checked_keys({"overview-plots": "v"}) == {"overview-plots": "v"}
