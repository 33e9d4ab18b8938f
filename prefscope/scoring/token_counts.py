"""Counts tokens with a checkpoint's tokenizer file alone, without importing torch or transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prefscope.errors import ModelError, ResourceError

TOKENIZER_FILE = "tokenizer.json"


def token_counter(name: str) -> Callable[[str], int]:
    """Return a function that counts a text's tokens, without special tokens that the tokenizer would add.

    Args:
        name: A checkpoint folder, its `tokenizer.json`, or a hub id.

    Raises:
        ModelError: If the file does not exist or is not a tokenizer.
        ResourceError: If the hub cannot be reached.
    """
    from tokenizers import Tokenizer

    path = Path(name).expanduser()
    file = path / TOKENIZER_FILE if path.is_dir() else path if path.is_file() else _download(name)
    if not file.is_file():
        raise ModelError(
            f"This folder has no {TOKENIZER_FILE}", where=name, hint="Pass a folder that save_pretrained wrote."
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises a bare Exception
        raise ModelError(f"This is not a tokenizer: {error}", where=str(file)) from error
    tokenizer.no_truncation()

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return count


def _download(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        return Path(hf_hub_download(name, TOKENIZER_FILE))
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise ModelError("There is no such tokenizer, locally or on the hub", where=name) from error
    except OSError as error:
        raise ResourceError(
            "There is no such folder, and the tokenizer cannot be fetched from the hub", where=name
        ) from error
