"""How time and memory of the engine grow with pairs, length and vocabulary.

    python tests/benchmarks/growth.py [--hidden 256 --layers 8 --device cpu --dtype float32]

Method: benchmarks/engine.py with a model of random weights, prefscope alone, each shape in a process of its own. One
quantity at a time becomes 4 and 16 times as large, starting from 16 pairs with prompts and responses of about 100
tokens and a vocabulary of 8,192.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

START = {"pairs": 16, "response": 100, "vocab": 8192}
FACTORS = (4, 16)


def measure(options: list[str], shape: dict[str, int]) -> dict[str, float]:
    """Return what prefscope takes for a shape."""
    arguments = [part for name, value in shape.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, str(Path(__file__).with_name("engine.py")), *options, "--prompt", "100", *arguments]
    done = subprocess.run([*command, "--only", "prefscope"], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print a table, a line for each shape."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hidden", default="256")
    parser.add_argument("--layers", default="8")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    options = [part for name, value in vars(parser.parse_args()).items() for part in (f"--{name}", value)]
    shapes = [START, *({**START, name: START[name] * factor} for name in START for factor in FACTORS)]
    print("| pairs | response | vocabulary | tokens computed | seconds | tokens/s | peak memory |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for shape in shapes:
        found = measure(options, shape)
        numbers = [f"{shape[name]:,}" for name in START]
        speed = f"{found['computed']:,.0f} | {found['seconds']:.2f} | {found['computed'] / found['seconds']:,.0f}"
        print(f"| {' | '.join(numbers)} | {speed} | {found['peak'] / 1e6:,.0f} MB |", flush=True)


if __name__ == "__main__":
    main()
