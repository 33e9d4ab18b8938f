"""Locates checkpoints and describes their content, without loading weights.

A checkpoint is a Hugging Face folder, a hub id, a PEFT adapter folder (with its base) or a GGUF file. This module reads
only configs and file headers; it does not import torch.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from prefscope.errors import UNREADABLE, ModelError, ResourceError, UsageError
from prefscope.scoring.folder_contents import loaded_weights, no_checkpoint, no_weights, refuse_pointers
from prefscope.scoring.store import LogpStore
from prefscope.settings import ModelSettings

ADAPTER_OFF = "adapter-off"
"""The reference that is the policy with its adapter switched off; see `Checkpoint.off`."""
CHUNK_BYTES = 1 << 24
REPLACING_INITS = ("pissa", "olora", "corda", "loftq")
"""Prefixes of `init_lora_weights` for which PEFT replaces the base's weights by a residual at every load."""
HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken"]


FileStamp: TypeAlias = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on this machine."""

    name: str
    """The name that the user passed."""
    path: Path
    """The folder, or the GGUF file."""
    base: Checkpoint | None = None
    """The base model, if this is an adapter."""
    off: bool = False
    """Whether to load the adapter and switch it off, which is what trainers use as reference if none is passed."""

    @property
    def is_gguf(self) -> bool:
        """Whether the weights are a GGUF file."""
        return self.path.suffix == ".gguf"

    @property
    def full(self) -> Checkpoint:
        """The checkpoint with all weights: itself, or an adapter's base."""
        return self if self.base is None else self.base

    def same_weights(self, other: Checkpoint) -> bool:
        """Return whether both are the same full checkpoint."""
        return self.base is None and other.base is None and self.path.resolve() == other.path.resolve()


def resolve(models: ModelSettings, note: Callable[[str], None]) -> tuple[Checkpoint, Checkpoint | None]:
    """Locate the policy and the reference, including the bases of adapters.

    Args:
        models: The user's settings.
        note: Called with a sentence if a base other than the recorded one is used.

    Raises:
        ModelError: If a checkpoint does not exist or is invalid, or an adapter's base is not found.
        UsageError: If the reference is missing, or requires an adapter that the policy is not.
        ResourceError: If the hub cannot be reached.
    """
    policy = _locate(models.policy, _fallback(models), models, note)
    if models.ref == "none":
        return policy, None
    if models.ref in (None, "base"):
        if policy.base is None:
            raise UsageError(
                "The policy is a full checkpoint, so a reference is required",
                where=models.policy,
                hint="Pass the checkpoint that its training started from, --ref PATH, or --ref none for SimPO alone.",
            )
        return policy, policy.base
    if models.ref == ADAPTER_OFF:
        if policy.base is None:
            raise UsageError(
                f"--ref {ADAPTER_OFF} needs a policy that is an adapter, but this is a full checkpoint",
                where=models.policy,
                hint="Pass the checkpoint that its training started from, --ref PATH.",
            )
        return policy, replace(policy, name=f"{policy.name} (adapter off)", off=True)
    return policy, _locate(str(models.ref), models.base, models, note)


def locate(name: str, models: ModelSettings) -> Checkpoint:
    """Locate a checkpoint by name, with the base that a policy of that name would have; raises as `resolve` does."""
    return _locate(name, _fallback(models), models, lambda _: None)


def _fallback(models: ModelSettings) -> str | None:
    """Return the model that stands in for an adapter's base that is not found."""
    return models.base or (models.ref if models.ref not in (None, "base", "none", ADAPTER_OFF) else None)


def _locate(
    name: str, fallback: str | None, models: ModelSettings, note: Callable[[str], None], *, as_base: bool = False
) -> Checkpoint:
    """Locate a checkpoint by name; `as_base` refuses adapters."""
    path = Path(name).expanduser()
    if not path.exists():
        path = _download(name, models)
    if path.is_file():
        if path.suffix != ".gguf":
            hint = "Pass a checkpoint folder or a .gguf file."
            raise ModelError("This file is not a checkpoint", where=name, hint=hint)
        return Checkpoint(name, path)
    refuse_pointers(path)
    if (path / "adapter_config.json").is_file():
        if as_base:
            raise _AdapterAsBaseError(name)
        return Checkpoint(name, path, base=_locate_base(name, path, fallback, models, note))
    if (path / "config.json").is_file():
        return Checkpoint(name, path)
    raise no_checkpoint(path, name)


class _AdapterAsBaseError(ModelError):
    """The base of an adapter is itself an adapter."""

    def __init__(self, base: str) -> None:
        super().__init__(
            f"The adapter's base {base!r} is itself an adapter", hint="Merge that adapter into its base first."
        )


def _locate_base(
    name: str, path: Path, fallback: str | None, models: ModelSettings, note: Callable[[str], None]
) -> Checkpoint:
    """Locate the base of an adapter: the one that the user named, the recorded one, or the fallback."""
    recorded = str(read_json(path / "adapter_config.json").get("base_model_name_or_path") or "")
    if models.base is None and recorded and Path(recorded).expanduser().resolve() == path.resolve():
        raise ModelError(
            "This adapter names itself as its base",
            where=name,
            hint="Pass the base that it was trained on with --base.",
        )
    if models.base is not None:
        base = _locate(models.base, None, models, note, as_base=True)
        if base.path.resolve() != Path(recorded).expanduser().resolve():
            note(f"{name}: {models.base} is used as its base; its config names {recorded!r}.")
    else:
        base = _locate_recorded_base(name, recorded, fallback, models, note)
    return base


def _locate_recorded_base(
    name: str, recorded: str, fallback: str | None, models: ModelSettings, note: Callable[[str], None]
) -> Checkpoint:
    """Locate the base that an adapter records, or the fallback if that is not found."""
    try:
        if recorded:
            return _locate(recorded, None, models, note, as_base=True)
    except _AdapterAsBaseError:
        raise
    except (ModelError, ResourceError):
        pass  # common: the path is from another machine
    if fallback is None:
        raise ModelError(
            f"The adapter's base model {recorded!r} was not found", where=name, hint="Pass the base model with --base."
        )
    note(f"{name}: the base {recorded!r} that its config names was not found; {fallback} is used as its base.")
    return _locate(fallback, None, models, note, as_base=True)


def _download(name: str, models: ModelSettings) -> Path:
    """Return the local snapshot of a hub id."""
    if name.count("/") > 1 or name.startswith((".", "/", "~")) or name.endswith(".gguf"):
        raise ModelError("There is no such checkpoint", where=name, hint="Check the path.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [*HUB_FILES, "*.bin"] if models.allow_pickle else HUB_FILES
    if models.trust_remote_code:
        patterns = [*patterns, "*.py"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except HFValidationError as error:
        raise ModelError("This is neither a path nor a hub id", where=name) from error
    except LocalEntryNotFoundError as error:
        raise ResourceError(
            "There is no such folder, and the hub cannot be reached to look for a model of that name",
            where=name,
            hint="Check the path, or download the model first.",
        ) from error
    except HfHubHTTPError as error:
        raise ModelError(
            "There is no such folder, and no accessible model of that name on the hub",
            where=name,
            hint="Check the path or the id; a private model needs `hf auth login`.",
        ) from error
    except OSError as error:
        raise ResourceError(f"The hub could not be read ({error})", where=name, hint="Try again later.") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object of a config file.

    Raises:
        ModelError: If the file is not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, *UNREADABLE) as error:
        raise ModelError(f"This config cannot be read ({error})", where=str(path)) from error
    if not isinstance(value, dict):
        raise ModelError("This config is not a JSON object", where=str(path))
    return value


def weight_files(checkpoint: Checkpoint, *, allow_pickle: bool) -> list[Path]:
    """Return the files with a checkpoint's own weights, in a fixed order.

    Raises:
        ModelError: If there are none, or only pickled files, which the user did not allow.
    """
    if checkpoint.is_gguf:
        return [checkpoint.path]
    files = loaded_weights(checkpoint.path, is_adapter=checkpoint.base is not None)
    pickled = sorted(checkpoint.path.glob("*.bin"))
    if files:
        return files
    if pickled and allow_pickle:
        return pickled
    if pickled:
        raise ModelError(
            "The weights are pickled (.bin), and a pickle can run code",
            where=str(checkpoint.path),
            hint="Convert them to safetensors, or pass --allow-pickle if you trust them.",
        )
    raise no_weights(checkpoint.path, checkpoint.name)


def fingerprint(
    checkpoint: Checkpoint, store: LogpStore, *, allow_pickle: bool, progress: Callable[[int, int], None]
) -> str:
    """Return a hash of everything that determines a model's numbers: configs and weights, including an adapter's base.

    Hashes of files are cached in the store, by path, size and time of the last change.

    Args:
        checkpoint: The checkpoint to hash.
        store: Caches hashes of files.
        allow_pickle: Whether to accept `.bin` weights.
        progress: Called with bytes done and total bytes while a file is read.
    """
    files = weight_files(checkpoint, allow_pickle=allow_pickle)
    files += [file for name in ("config.json", "adapter_config.json") if (file := checkpoint.path / name).is_file()]
    whole = hashlib.blake2b(digest_size=16)
    for file in files:
        whole.update(file.name.encode() if not checkpoint.is_gguf else b"gguf")
        whole.update(bytes.fromhex(_file_digest(file, store, progress)))
    if _replaces_base(checkpoint):  # computed at every load, and may differ between releases of PEFT
        whole.update(_peft_version().encode())
    if checkpoint.off:  # differs from the base's own hash, as an adapter may change the base even when switched off
        whole.update(ADAPTER_OFF.encode())
    if checkpoint.base is not None:
        whole.update(fingerprint(checkpoint.base, store, allow_pickle=allow_pickle, progress=progress).encode())
    return whole.hexdigest()


def _replaces_base(checkpoint: Checkpoint) -> bool:
    if checkpoint.base is None:
        return False
    init = read_json(checkpoint.path / "adapter_config.json").get("init_lora_weights")
    return str(init).lower().startswith(REPLACING_INITS)


def _peft_version() -> str:
    try:
        return importlib.metadata.version("peft")
    except importlib.metadata.PackageNotFoundError:
        return ""  # without PEFT, nothing is loaded


def file_stamps(checkpoint: Checkpoint) -> tuple[FileStamp, ...]:
    """Return name, size and time of the last change of each file covered by a fingerprint, including an adapter's base.

    The time is the inode's (in nanoseconds), which also changes when a copy preserves modification times.
    """
    files = [file for one in (checkpoint, checkpoint.full) for file in _named_files(one)]
    return tuple((str(file), stat.st_size, stat.st_ctime_ns) for file in files for stat in [file.stat()])


def _named_files(checkpoint: Checkpoint) -> list[Path]:
    """Return the existing weight files and configs of a checkpoint."""
    if checkpoint.is_gguf:
        return [checkpoint.path]
    weights = [file for suffix in ("*.safetensors", "*.bin") for file in checkpoint.path.glob(suffix)]
    configs = [checkpoint.path / name for name in ("config.json", "adapter_config.json")]
    return sorted(weights) + [file for file in configs if file.is_file()]


def _file_digest(file: Path, store: LogpStore, progress: Callable[[int, int], None]) -> str:
    """Return the content hash of a file, from the store if its size and time of the last change are unchanged.

    The time is the inode's, which also changes when a copy preserves modification times (`cp -p`, `rsync -t`).
    """
    stat = file.stat()
    known = store.file_digest(str(file.resolve()), stat.st_size, stat.st_ctime_ns)
    if known is not None:
        return known
    digest = hashlib.blake2b(digest_size=16)
    done = 0
    for chunk in _chunks(file):
        digest.update(chunk)
        done += len(chunk)
        progress(done, stat.st_size)
    store.remember_file_digest(str(file.resolve()), stat.st_size, stat.st_ctime_ns, digest.hexdigest())
    return digest.hexdigest()


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk
