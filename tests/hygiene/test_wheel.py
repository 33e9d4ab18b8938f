"""The bundled data is found in a checkout and in a wheel, from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXPECTED = ("pairs.jsonl", "demo.parquet", "demo-early.parquet", "tiny-policy/model.safetensors", "make_samples.py")
QUESTION = "import prefscope; print(prefscope.__file__); print(prefscope.sample_data())"


@pytest.fixture(scope="module")
def wheel_install(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the project's wheel installed, without dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    wheel = next(folder.glob("*.whl"))
    target = folder / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    return target


def ask(folder: Path, path: str) -> tuple[Path, Path]:
    """Return where a Python started in another folder finds the package and the data."""
    environment = {**os.environ, "PYTHONPATH": path}
    answer = subprocess.run(
        [sys.executable, "-c", QUESTION], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    package, data = answer.stdout.splitlines()
    return Path(package), Path(data)


def test_a_checkout_finds_its_data_from_another_folder(tmp_path: Path) -> None:
    package, data = ask(tmp_path, "")
    assert package == ROOT / "prefscope" / "__init__.py"
    assert data == ROOT / "sample_data"


@pytest.mark.slow
def test_a_wheel_contains_its_data_and_finds_it_from_another_folder(wheel_install: Path, tmp_path: Path) -> None:
    package, data = ask(tmp_path, str(wheel_install))
    assert package == wheel_install / "prefscope" / "__init__.py"
    assert data == wheel_install / "prefscope" / "sample_data"
    assert [name for name in EXPECTED if not (data / name).is_file()] == []
