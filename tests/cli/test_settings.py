"""A flag goes before the environment, that before prefscope.toml, that before the default."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Program = Callable[..., tuple[int, str, str]]


@pytest.fixture
def beta(program: Program, ledger: Path) -> Callable[..., float]:
    """Return a function that gives the beta that a report with further options uses."""

    def used(*options: str) -> float:
        code, out, err = program("report", ledger, "--json", *options)
        assert code == 0, err
        return float(json.loads(out)["beta"])

    return used


def write_file(text: str) -> None:
    Path("prefscope.toml").write_text(text, encoding="utf-8")


def test_each_source_of_a_setting_goes_before_the_next(
    beta: Callable[..., float], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [beta()]
    write_file("beta = 0.2\n")
    found.append(beta())
    monkeypatch.setenv("PREFSCOPE_BETA", "0.3")
    found.append(beta())
    found.append(beta("--beta", "0.4"))
    assert found == [0.1, 0.2, 0.3, 0.4]


def test_the_table_of_a_command_goes_before_what_all_share(beta: Callable[..., float]) -> None:
    write_file("beta = 0.2\n[report]\nbeta = 0.3\n[export]\nbeta = 0.4\n")
    assert beta() == 0.3


def test_the_users_config_folder_is_looked_in_where_the_working_folder_has_no_file(
    beta: Callable[..., float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "prefscope").mkdir(parents=True)
    (tmp_path / "config" / "prefscope" / "prefscope.toml").write_text("beta = 0.7\n")
    assert beta() == 0.7
    write_file("beta = 0.2\n")
    assert beta() == 0.2


def test_a_setting_that_a_command_lacks_is_left_to_the_others(program: Program) -> None:
    write_file("beta = 0.2\n")
    assert program("cache", "--cache", "none")[0] == 0


def test_a_repeatable_option_is_a_list(program: Program, ledger: Path) -> None:
    write_file('loss = ["ipo_azar", "simpo:gamma=0.8"]\n')
    _, out, _ = program("report", ledger, "--json")
    assert [loss["name"] for loss in json.loads(out)["losses"]] == ["ipo_azar", "simpo"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("beto = 0.2\n", "prefscope.toml: there is no setting 'beto'. Did you mean 'beta'?"),
        ("[report]\nbeto = 0.2\n", "there is no setting 'beto'. Did you mean 'beta'?"),
        ("[repart]\nbeta = 0.2\n", "there is no setting 'repart'. Did you mean 'report'?"),
        ("xyzzy = 1\n", "Its names are the long options without the dashes."),
        ("beta = \n", "prefscope.toml: this settings file cannot be read"),
    ],
    ids=["shared", "of a command", "a command", "far from any", "no TOML"],
)
def test_a_mistake_in_the_file_is_told_with_the_nearest_name(
    program: Program, ledger: Path, text: str, told: str
) -> None:
    write_file(text)
    code, out, err = program("report", ledger)
    assert (code, out) == (2, "")
    assert told in err


def test_a_value_of_another_type_is_told(program: Program, ledger: Path) -> None:
    write_file('beta = "much"\n')
    code, _, err = program("report", ledger)
    assert code == 2
    assert "beta" in err
