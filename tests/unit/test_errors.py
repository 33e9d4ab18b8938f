"""Errors are sentences: where, what, and what to do next; their class determines the exit code."""

from __future__ import annotations

import pytest

from prefscope.errors import (
    DataError,
    LedgerError,
    MissingExtraError,
    ModelError,
    PrefscopeError,
    ResourceError,
    UsageError,
    was_interrupted,
)


@pytest.mark.parametrize(
    ("where", "hint", "sentence"),
    [
        ("", "", "The file is empty."),
        ("a.csv:3", "", "a.csv:3: the file is empty."),
        ("", "Add rows.", "The file is empty. Add rows."),
        ("a.csv", "Add rows.", "a.csv: the file is empty. Add rows."),
    ],
    ids=["what", "where and what", "what and hint", "all three"],
)
def test_an_error_message_is_made_of_sentences(where: str, hint: str, sentence: str) -> None:
    assert str(PrefscopeError("The file is empty", where=where, hint=hint)) == sentence


def test_an_error_keeps_its_fields() -> None:
    error = DataError("The file is empty", where="a.csv", hint="Add rows.")
    assert (error.what, error.where, error.hint) == ("The file is empty", "a.csv", "Add rows.")


@pytest.mark.parametrize("kind", [UsageError, DataError, ModelError, LedgerError])
def test_user_errors_exit_with_2(kind: type[PrefscopeError]) -> None:
    assert kind("x").exit_code == 2


def test_machine_failures_exit_with_3() -> None:
    assert ResourceError("x").exit_code == 3


def test_a_missing_package_is_reported_with_its_install_command() -> None:
    told = "Reading GGUF needs an optional package. Install it: pip install 'prefscope[gguf]'."
    error = MissingExtraError("Reading GGUF", "gguf")
    assert str(error).rstrip(".") == told.rstrip(".")
    assert error.exit_code == 2


def test_an_error_in_a_ring_of_causes_and_contexts_is_no_interrupt() -> None:
    error, other = ValueError("a"), ValueError("b")
    error.__cause__, other.__context__ = other, error
    assert not was_interrupted(error)


def test_an_interrupt_is_found_behind_causes_and_contexts() -> None:
    error, other = ValueError("a"), ValueError("b")
    error.__cause__, other.__context__ = other, KeyboardInterrupt()
    assert was_interrupted(error)
