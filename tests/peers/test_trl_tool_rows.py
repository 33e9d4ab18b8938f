"""Tool calls, nulls and reasoning reach chat templates as in TRL, from JSON and Parquet."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
import trl
from transformers import PreTrainedTokenizerBase
from trl.trainer.dpo_trainer import DPOTrainer

from prefscope.data.reading import pairs_of
from prefscope.data.records import METADATA_KEYS, BadRow, PreferencePair
from prefscope.data.sources import open_source
from prefscope.scoring.tokenization import PairTokenizer
from prefscope.settings import TokenizationSettings

pytestmark = pytest.mark.slow

TEMPLATES = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
    if not path.stem.endswith("_training")
}
TRIED = ("qwen2_5", "qwen3", "llama3_1", "deepseekv3", "gemma3", "glm4moe", "phi3", "gptoss")
"""Of those that treat null, absent and empty differently."""
Ids = tuple[list[int], list[int]] | None
ASK = {"role": "user", "content": "Weather in Oslo?"}
NO = {"role": "assistant", "content": "No."}


def call(**arguments: Any) -> dict[str, Any]:
    return {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}


def calling(**keys: Any) -> dict[str, Any]:
    return {"role": "assistant", **keys}


ROWS: dict[str, list[dict[str, Any]]] = {
    "null content": [{"prompt": [ASK], "chosen": [calling(content=None, tool_calls=[call(a=1)])], "rejected": [NO]}],
    "no content": [{"prompt": [ASK], "chosen": [calling(tool_calls=[call(a=1)])], "rejected": [NO]}],
    "null arguments": [
        {"prompt": [ASK], "chosen": [calling(content="", tool_calls=[call(city="Oslo")])], "rejected": [NO]},
        {"prompt": [ASK], "chosen": [calling(content="", tool_calls=[call(limit=None)])], "rejected": [NO]},
    ],
    "null tool calls": [{"prompt": [ASK], "chosen": [NO | {"tool_calls": None}], "rejected": [NO]}],
    "reasoning": [{"prompt": [ASK], "chosen": [NO | {"reasoning_content": "Why?"}], "rejected": [NO]}],
    "null name": [{"prompt": [ASK | {"name": None}], "chosen": [NO], "rejected": [NO]}],
}


def trl_ids(tokenizer: PreTrainedTokenizerBase, path: Path, folder: Path) -> list[Ids]:
    """Return the rows read by `datasets` as prepared by DPOTrainer, None for rows that raise."""
    read = datasets.load_dataset(
        path.suffix.removeprefix(".").replace("jsonl", "json"),
        data_files=str(path),
        split="train",
        cache_dir=str(folder),
    )
    trainer: Any = SimpleNamespace(_tokenizer=tokenizer)
    config: Any = SimpleNamespace(dataset_num_proc=None, max_length=None, truncation_mode="keep_start")
    found: list[Ids] = []
    for i in range(len(read)):
        try:
            (row,) = DPOTrainer._prepare_dataset(trainer, read.select([i]), tokenizer, config, "eval")
        except Exception:  # noqa: BLE001 (a template is a program and can raise anything)
            found.append(None)
        else:
            found.append((row["prompt_ids"] + row["chosen_ids"], row["prompt_ids"] + row["rejected_ids"]))
    return found


def our_ids(tokenizer: PreTrainedTokenizerBase, path: Path) -> list[Ids]:
    pairs = [found[0] for found in pairs_of(open_source(str(path))) if not isinstance(found, BadRow)]
    assert all(isinstance(pair, PreferencePair) for pair in pairs)
    tokenize = partial(PairTokenizer, tokenizer, TokenizationSettings(), None, frozenset())
    items = tokenize().tokenize(pairs)
    return [
        None if isinstance(item, BadRow) else (item.chosen.token_ids.tolist(), item.rejected.token_ids.tolist())
        for item in items
    ]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("kind", ROWS)
def test_templates_receive_rows_as_in_trl(
    kind: str, suffix: str, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    path = tmp_path / f"rows{suffix}"
    if suffix == ".parquet":
        datasets.Dataset.from_list(ROWS[kind]).to_parquet(str(path))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[kind]), encoding="utf-8")
    ours, theirs = {}, {}
    for name in TRIED:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tiny_tokenizer, "chat_template", TEMPLATES[name])
            ours[name] = our_ids(tiny_tokenizer, path)
            theirs[name] = trl_ids(tiny_tokenizer, path, tmp_path / "cache")
    assert ours == theirs
    assert None not in ours["qwen2_5"]


def test_no_trl_template_reads_the_metadata_of_a_turn() -> None:
    read = re.compile(r"""(?:message|msg|turn|m)\w*(?:\.|\[["']|\.get\(["'])(\w+)""")
    keys = {key for template in TEMPLATES.values() for key in read.findall(template)}
    assert {"role", "content", "tool_calls"} <= keys
    assert keys & METADATA_KEYS == set()
