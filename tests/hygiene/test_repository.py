"""Rules of the repository's files."""

from __future__ import annotations

import inspect
import re
import shutil
import statistics
import subprocess
from pathlib import Path

import pytest

import prefscope

ROOT = Path(__file__).parents[2]
PACKAGE = Path(prefscope.__file__).parent
LONGEST_MODULE, MEDIAN_MODULE = 500, 150
"""In lines. A single low limit for all modules would split what belongs together."""
MACHINE_PATHS = tuple(f"/{folder}/".encode() for folder in ("root", "work"))
PUBLIC_HOSTS = {"pypi.org", "files.pythonhosted.org", "download.pytorch.org"}
PACKAGE_HOST = re.compile(
    rb"https?://([\w.-]*(?:pypi|pythonhosted|registry|artifactory|nexus|mirror)[\w.-]*|\d[\d.:]+)"
)


def repository_files() -> list[Path]:
    """Return the files that are committed or would be."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    command = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def test_no_file_contains_a_path_of_the_machine_it_was_made_on() -> None:
    found = {
        str(file.relative_to(ROOT)): path.decode()
        for file in repository_files()
        for path in MACHINE_PATHS
        if re.search(rb"(?<![\w.~-])" + re.escape(path), file.read_bytes())
    }
    assert found == {}


def test_files_name_only_public_package_hosts() -> None:
    hosts = {
        str(file.relative_to(ROOT)): host.decode()
        for file in repository_files()
        for host in PACKAGE_HOST.findall(file.read_bytes())
        if host.decode() not in PUBLIC_HOSTS
    }
    assert hosts == {}


@pytest.mark.parametrize("name", prefscope.__all__)
def test_public_names_exist_and_are_documented(name: str) -> None:
    assert inspect.getdoc(getattr(prefscope, name))


def test_public_names_are_sorted_and_an_unknown_one_is_an_attribute_error() -> None:
    assert list(prefscope.__all__) == sorted(prefscope.__all__)
    with pytest.raises(AttributeError, match="module 'prefscope' has no attribute 'nonsense'"):
        prefscope.nonsense  # noqa: B018 (the access is the test)


def test_no_module_is_too_long() -> None:
    lengths = {
        str(file.relative_to(PACKAGE)): len(file.read_text(encoding="utf-8").splitlines())
        for file in PACKAGE.rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}
    assert statistics.median(lengths.values()) <= MEDIAN_MODULE


def test_only_one_place_starts_python_so_that_no_child_imports_files_of_the_working_folder() -> None:
    starting = [file.name for file in PACKAGE.rglob("*.py") if "sys.executable" in file.read_text(encoding="utf-8")]
    assert starting == ["subprocesses.py"]
