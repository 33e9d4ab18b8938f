"""What --alternatives costs: time of the forward passes, bytes a token in the ledger and in the store.

    python tests/benchmarks/alternatives.py DATA --policy CHECKPOINT --ref CHECKPOINT [--limit 24] [--count 5 20]

Time: the planned batches of all pairs with the policy, in one process with one thread, in CPU seconds, as they depend
less on what else the machine does; runs without and with alternatives take turns, and the fastest of each counts.
Bytes: the ledgers and stores of runs without and with alternatives; a token is a scored token under one model.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import torch
from engine import Work, real_work

from prefscope.folders import store_path
from prefscope.ledger.columns import NUM_TOKENS
from prefscope.ledger.table import load_ledger
from prefscope.pipeline.run import score
from prefscope.scoring.alternatives import TopTokens
from prefscope.scoring.engine import forward
from prefscope.scoring.head import Measure
from prefscope.scoring.logps import token_logps
from prefscope.scoring.self_check import follow
from prefscope.settings import ComputeSettings, DataSettings, ModelSettings, ScoreSettings

TURNS = 3


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data")
    parser.add_argument("--policy", required=True)
    parser.add_argument("--ref", required=True)
    parser.add_argument("--base")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-tokens", type=int)
    parser.add_argument("--limit", type=int, default=24)
    parser.add_argument("--count", type=int, nargs="+", default=[5, 20])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print_seconds(real_work(arguments), arguments.count)
    print_bytes(arguments)


def print_seconds(work: Work, counts: list[int]) -> None:
    """Print the CPU seconds of the forward passes with the policy."""
    measures: dict[str, Measure] = {"without": token_logps}
    measures |= {f"K = {count}": TopTokens(count) for count in counts}
    fastest = dict.fromkeys(measures, float("inf"))
    model, _ = work.models[0]
    follow(model, "packed")
    for _ in range(TURNS):
        for name, measure in measures.items():
            started = time.process_time()
            for batch in work.batches:
                forward(model, "packed", batch, measure)
            fastest[name] = min(fastest[name], time.process_time() - started)
    for name, seconds in fastest.items():
        print(f"{name:10} {seconds:6.1f} CPU s  {seconds / fastest['without'] - 1:+.1%}")


def print_bytes(arguments: argparse.Namespace) -> None:
    """Print the size of ledgers and stores for each number of alternatives, and of the columns of the last one."""
    settings = ScoreSettings(
        DataSettings(arguments.data, limit=arguments.limit), ModelSettings(arguments.policy, arguments.ref)
    )
    with TemporaryDirectory() as folder:
        for count in (0, *arguments.count):
            compute = ComputeSettings(cache_dir=f"{folder}/{count}", threads=1, alternatives=count)
            path = score(replace(settings, compute=compute), lambda _: Path(folder) / "ledger.parquet", lambda _: None)
            stored = load_ledger(path).stored
            tokens = 2 * sum(int(stored[name].sum()) for name in NUM_TOKENS)
            kept = store_path(f"{folder}/{count}").stat().st_size
            print(
                f"K = {count:2}  ledger {path.stat().st_size / tokens:6.1f} B/token  store {kept / tokens:6.1f} B/token"
            )
        print_columns(path, tokens)


def print_columns(path: Path, tokens: int) -> None:
    """Print the compressed bytes a token of each column of alternatives, those of both models and responses added."""
    metadata, sizes = pq.read_metadata(path), dict[str, int]()
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            name = chunk.path_in_schema.split(".")[0].replace("policy_", "").replace("ref_", "")
            name = name.replace("chosen_", "").replace("rejected_", "")
            sizes[name] = sizes.get(name, 0) + chunk.total_compressed_size
    for name in ("top_ids", "top_logps", "token_entropies", "token_ranks", "alternative_ids", "alternative_texts"):
        print(f"{name:18} {sizes.get(name, 0) / tokens:5.2f} B/token")


if __name__ == "__main__":
    main()
