"""Speed and memory of the engine against TRL, a naive script and the matrix-product floor, in one run.

    python tests/benchmarks/engine.py [DATA --policy CHECKPOINT --ref CHECKPOINT] [--limit 24] [--trl 1 4 8]
    python tests/benchmarks/engine.py --hidden 1536 --layers 28 --vocab 151936 [--pairs 64 --prompt 300 --response 250]

Method: without arguments the tiny pair of sample_data; with --hidden a llama-shaped model of random weights on random
tokens, without TRL. Every contestant runs in a process of its own, one after the other, so that each has its own peak
of memory (resident, or allocated on a GPU); loading is not timed. All score the same pairs with the policy and with the
reference, without truncation.

- floor: nothing but the matrix products that prefscope's batches need, layer by layer with the models' own shapes and
  the head at scored positions, an adapter's left out: once as `torch.nn.functional.linear` computes them, once as
  prefscope does (prefscope/scoring/linear.py). It is measured before and after the others, and the faster time counts.
- prefscope: forward passes of the planned batches, their softmax included (what `scoring_seconds` counts, but for the
  commits, which benchmarks/store.py measures).
- prefscope, unfused: the same without fused kernels, on a GPU.
- naive: what one writes in ten lines, chosen and rejected side by side in padded rows, 8 pairs at a time, a softmax
  over the whole vocabulary at every position.
- TRL: `eval_runtime` of DPOTrainer.evaluate.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from prefscope import sample_data
from prefscope.data.dialects import normalise
from prefscope.data.records import BadRow
from prefscope.data.sources import open_source
from prefscope.scoring.batches import pad
from prefscope.scoring.checkpoints import Checkpoint, resolve
from prefscope.scoring.engine import forward
from prefscope.scoring.head import FEWEST_ROWS, decoder_of, logits_at_once
from prefscope.scoring.linear import matrix_products
from prefscope.scoring.models import LanguageModel, load_model, load_tokenizer, pick_device
from prefscope.scoring.planning import computed_tokens, plan_batches
from prefscope.scoring.probe import MOST_TOKENS
from prefscope.scoring.self_check import check
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.tokenization import PairTokenizer, TokenizedPair
from prefscope.settings import ModelSettings, TokenizationSettings

NAIVE_PAIRS = 8
OURS, UNFUSED = "prefscope", "prefscope, unfused"


@dataclass(frozen=True)
class Work:
    """Two models and the sequences of some pairs, chosen and rejected by turns."""

    models: list[tuple[LanguageModel, Checkpoint | None]]
    sequences: list[TokenSequence]
    batch_tokens: int

    @property
    def batches(self) -> list[list[TokenSequence]]:
        """The batches that prefscope plans."""
        distinct = list({sequence.digest(): sequence for sequence in self.sequences}.values())
        plan = plan_batches(distinct, packed=True, batch_tokens=self.batch_tokens)
        return [[s for s, at in zip(distinct, plan, strict=True) if at == n] for n in range(int(plan.max()) + 1)]


def real_work(arguments: argparse.Namespace) -> Work:
    """Return the work on a data set with two checkpoints."""
    settings = ModelSettings(arguments.policy, arguments.ref, base=arguments.base, device=arguments.device)
    policy, ref = resolve(settings, print)
    assert ref is not None
    device = pick_device(arguments.device)
    tokenizer = load_tokenizer(policy, settings)
    assert tokenizer is not None
    with closing(open_source(arguments.data, split=None, config=None, revision=None)) as source:
        rows = [row for row in source.rows() if not isinstance(row, BadRow)][: arguments.limit]
    pairs = [normalise(row, dialect="auto", mapping=None)[0] for row in rows]
    tokenized = PairTokenizer(tokenizer, TokenizationSettings(), None, frozenset()).tokenize(pairs)
    sequences = [side for item in tokenized if isinstance(item, TokenizedPair) for side in (item.chosen, item.rejected)]
    loaded = load_model(policy, settings, device=device, dtype=arguments.dtype)
    if policy.base is not None and ref.same_weights(policy.base):
        models: list[tuple[LanguageModel, Checkpoint | None]] = [(loaded, policy), (loaded, ref)]
    else:
        models = [(loaded, policy), (load_model(ref, settings, device=device, dtype=arguments.dtype), ref)]
    return Work(models, sequences, arguments.batch_tokens or MOST_TOKENS[device.type])


def random_work(arguments: argparse.Namespace) -> Work:
    """Return the work of a model of random weights on random pairs, as policy and as reference."""
    device = pick_device(arguments.device)
    heads = max(arguments.hidden // 64, 1)
    key_heads = max(number for number in range(1, max(heads // 4, 1) + 1) if heads % number == 0)
    config = LlamaConfig(
        hidden_size=arguments.hidden,
        intermediate_size=arguments.inner or 4 * arguments.hidden,
        num_hidden_layers=arguments.layers,
        vocab_size=arguments.vocab,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        max_position_embeddings=16_384,
        tie_word_embeddings=True,
    )
    with torch.device(device):
        module = LlamaForCausalLM(config).to(getattr(torch, arguments.dtype)).eval()
    generator = np.random.default_rng(0)
    sequences = []
    for _ in range(arguments.pairs):
        prompt = generator.integers(arguments.vocab, size=generator.poisson(arguments.prompt))
        for _ in ("chosen", "rejected"):
            response = generator.integers(arguments.vocab, size=1 + generator.poisson(arguments.response))
            sequences.append(TokenSequence(np.concatenate([prompt, response]).astype(np.int32), len(prompt)))
    model = LanguageModel(module, None, device, arguments.dtype, "sdpa")
    return Work([(model, None), (model, None)], sequences, arguments.batch_tokens or MOST_TOKENS[device.type])


def timed(device: torch.device, function: Callable[[], object]) -> float:
    """Return the seconds that a function takes, a GPU's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def run_prefscope(work: Work, *, may_fuse: bool = True) -> float:
    """Return the seconds of all forward passes with both models."""
    pool = np.concatenate([sequence.token_ids for sequence in work.sequences[:8]])
    seconds = 0.0
    for model, checkpoint in work.models:
        with active(model, checkpoint):
            verdict = check(model, pool, may_fuse=may_fuse)
            forward(model, verdict.path, work.batches[-1])
            for batch in work.batches:
                seconds += timed(model.device, partial(forward, model, verdict.path, batch))
    return seconds


def active(model: LanguageModel, checkpoint: Checkpoint | None) -> AbstractContextManager[Any]:
    """Return a context in which a model is the one that a checkpoint means."""
    return nullcontext() if checkpoint is None else model.adapter_for(checkpoint)


def run_floor(work: Work, *, best: bool) -> float:
    """Return the seconds of the matrix products alone, with both models."""
    seconds = 0.0
    for model, _ in work.models:
        context = matrix_products(model.device, model.dtype)[1] if best else nullcontext()
        with torch.inference_mode(), context:
            for batch in work.batches:
                seconds += timed(model.device, partial(multiply, *products_of(model, batch)))
    return seconds


def products_of(model: LanguageModel, batch: list[TokenSequence]) -> tuple[list[Tensor], list[Tensor]]:
    """Return what is multiplied for a batch: inputs, and the weight of each."""
    named = decoder_of(model.module).named_modules()
    layers = [one.weight for name, one in named if type(one) is nn.Linear and "lora_" not in name]
    head: Any = model.module.get_output_embeddings()
    rows, scored = computed_tokens(batch, packed=True), sum(sequence.num_scored for sequence in batch)
    made = {w.shape[1]: torch.randn(rows, w.shape[1], device=w.device, dtype=w.dtype) for w in layers}
    width = head.weight.element_size()
    chunk = logits_at_once(model.module.config, rows, device=model.device, width=width)
    most = max(FEWEST_ROWS, chunk // int(head.weight.shape[0]))
    pieces = [min(most, scored - start) for start in range(0, scored, most)]
    hidden = [made[head.weight.shape[1]][:1].expand(size, -1).contiguous() for size in pieces]
    return [*(made[weight.shape[1]] for weight in layers), *hidden], [*layers, *[head.weight] * len(hidden)]


def multiply(inputs: list[Tensor], weights: list[Tensor]) -> None:
    """Run every linear layer once."""
    for values, weight in zip(inputs, weights, strict=True):
        functional.linear(values, weight)


def run_naive(work: Work) -> float:
    """Return the seconds of padded rows with a softmax over all positions."""
    seconds = 0.0
    for model, checkpoint in work.models:
        with torch.inference_mode(), active(model, checkpoint):
            for start in range(0, len(work.sequences), 2 * NAIVE_PAIRS):
                rows = work.sequences[start : start + 2 * NAIVE_PAIRS]
                seconds += timed(model.device, partial(score_naively, model, rows))
    return seconds


def score_naively(model: LanguageModel, rows: list[TokenSequence]) -> None:
    """Compute the log-probs of all tokens of padded rows."""
    input_ids, mask = (torch.from_numpy(one).to(model.device) for one in pad(rows))
    logits = model.module(input_ids=input_ids, attention_mask=mask, use_cache=False).logits
    logits[:, :-1].float().log_softmax(-1).gather(-1, input_ids[:, 1:, None]).cpu()


def run_trl_batch(arguments: argparse.Namespace, batch: int) -> float:
    """Return TRL's `eval_runtime`."""
    from against_trl import run_trl

    with Path(arguments.data).open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream][: arguments.limit]
    rows = [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in rows]
    ref = arguments.base or arguments.ref
    return run_trl(rows, arguments.policy, ref, batch, dtype=arguments.dtype, device=arguments.device)["runtime"]


def run_one(name: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Run one contestant in this process and return what it took."""
    work = None if name.startswith("TRL") else (random_work if arguments.hidden else real_work)(arguments)
    if work is None:
        seconds = run_trl_batch(arguments, int(name.rsplit(" ", 1)[1]))
    elif name.startswith("floor"):
        seconds = run_floor(work, best="best" in name)
    else:
        contestants: dict[str, Callable[[Work], float]] = {
            OURS: run_prefscope,
            UNFUSED: partial(run_prefscope, may_fuse=False),
            "naive, 8 pairs": run_naive,
        }
        seconds = contestants[name](work)
    on_gpu = torch.cuda.is_available() and arguments.device != "cpu"
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {"seconds": seconds, "peak": float(peak)}
    if work is not None:
        found["real"] = float(len(work.models) * sum(len(sequence.token_ids) for sequence in work.sequences))
        found["computed"] = float(len(work.models) * sum(computed_tokens(b, packed=True) for b in work.batches))
    return found


def in_own_process(name: str) -> dict[str, float]:
    """Run one contestant in a process of its own and return what it took."""
    command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print a table, a line for each contestant."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", nargs="?", default=str(sample_data() / "pairs.jsonl"))
    parser.add_argument("--policy", default=str(sample_data() / "tiny-policy"))
    parser.add_argument("--ref", default=str(sample_data() / "tiny-ref"))
    parser.add_argument("--base")
    parser.add_argument("--limit", type=int, default=24)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-tokens", type=int)
    parser.add_argument("--trl", type=int, nargs="*", default=[8, 4, 1])
    parser.add_argument("--no-naive", action="store_true")
    for name, value in {"hidden": 0, "layers": 16, "vocab": 32_000, "inner": 0, "pairs": 24}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--prompt", type=int, default=200)
    parser.add_argument("--response", type=int, default=200)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(run_one(arguments.only, arguments)))
        return
    floors = ["floor, torch", "floor, best"]
    on_gpu = torch.cuda.is_available() and arguments.device != "cpu"
    names = [*floors, OURS, *([UNFUSED] if on_gpu else []), *([] if arguments.no_naive else ["naive, 8 pairs"])]
    names += [] if arguments.hidden else [f"TRL, batch {batch}" for batch in arguments.trl]
    results: dict[str, dict[str, float]] = {}
    for name in [*names, OURS, *floors]:
        found = in_own_process(name)
        print(f"{name}: {found['seconds']:.2f} s", file=sys.stderr)
        if name not in results or found["seconds"] < results[name]["seconds"]:
            results[name] = found
    print_table(results)


def print_table(results: dict[str, dict[str, float]]) -> None:
    """Print what every contestant took, against prefscope and the floors."""
    ours = results[OURS]
    print(f"{ours['real']:,.0f} tokens of both models together, {ours['computed']:,.0f} computed by prefscope\n")
    print("| | seconds | tokens/s | of prefscope's time | peak memory |\n|---|---:|---:|---:|---:|")
    for name, found in results.items():
        cells = (found["seconds"], ours["real"] / found["seconds"], found["seconds"] / ours["seconds"])
        print(f"| {name} | {cells[0]:.1f} | {cells[1]:,.0f} | {cells[2]:.2f} × | {found['peak'] / 1e9:.2f} GB |")
    for name in ("floor, torch", "floor, best"):
        print(f"\nshare of the {name}: {results[name]['seconds'] / ours['seconds']:.0%}", end="")
    print()


if __name__ == "__main__":
    main()
