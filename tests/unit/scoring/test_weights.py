"""What weight files contain: the dtype and number of weights, and how many equal those of another checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from prefscope.errors import ModelError
from prefscope.scoring.checkpoints import Checkpoint
from prefscope.scoring.headers import num_weights, stored_dtype, tensor_shapes
from prefscope.scoring.weights import overlap
from tests.unit.scoring.checkpoint_folders import Sizes, make_adapter, make_checkpoint, save_checkpoint

LIGHT = 1.5e-5
"""How far a light fine-tune changes a weight: a few steps at a learning rate of 5e-7."""


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Return weights with a typical standard deviation."""
    return 0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def moved(weight: Tensor, by: float = LIGHT) -> Tensor:
    """Return weights after training: each has changed by the same amount, up or down."""
    return weight + by * torch.randn(weight.shape, generator=torch.Generator().manual_seed(9)).sign()


def before() -> dict[str, Tensor]:
    """Return the weights of a reference."""
    return {"embed": normal(200, 50), "layer.q": normal(50, 50, seed=1), "layer.norm": torch.ones(50)}


def light_fine_tune() -> dict[str, Tensor]:
    """Return the weights of its policy, with all matrices changed."""
    return {name: moved(weight) if weight.dim() == 2 else weight for name, weight in before().items()}


@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [
        ({torch.float32: 10}, "float32"),
        ({torch.bfloat16: 10}, "bfloat16"),
        ({torch.float16: 10}, "float16"),
        ({torch.float64: 10}, "float64"),
        ({torch.bfloat16: 500, torch.float32: 500}, "float32"),
        ({torch.bfloat16: 9900, torch.float32: 100}, "float32"),
        ({torch.bfloat16: 9901, torch.float32: 99}, "bfloat16"),
        ({torch.bfloat16: 100, torch.int64: 5000}, "bfloat16"),
        ({torch.int8: 100}, "float32"),
    ],
)
def test_the_stored_dtype_is_the_widest_that_holds_a_hundredth_of_the_weights(
    tmp_path: Path, sizes: Sizes, dtype: str
) -> None:
    assert stored_dtype(make_checkpoint(tmp_path / "model", sizes)) == dtype


def test_the_stored_dtype_considers_all_shards(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", {torch.bfloat16: 10})
    save_file({"more": torch.zeros(10)}, checkpoint.path / "model-2.safetensors")
    assert stored_dtype(checkpoint) == "float32"


def test_the_stored_dtype_of_an_adapter_is_that_of_its_base(tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "base", {torch.bfloat16: 10})
    assert stored_dtype(make_adapter(tmp_path / "adapter", base)) == "bfloat16"


def test_gguf_weights_count_as_float32(tmp_path: Path) -> None:
    assert stored_dtype(Checkpoint("model", tmp_path / "model.gguf")) == "float32"


@pytest.mark.parametrize("kept", [4, 20], ids=["no header", "half a header"])
def test_truncated_weights_are_refused(tmp_path: Path, kept: int) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", {torch.float32: 10})
    file = checkpoint.path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ModelError, match="this safetensors file is incomplete or damaged"):
        stored_dtype(checkpoint)


def test_a_file_that_is_not_safetensors_is_refused(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", {torch.float32: 10})
    (checkpoint.path / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ModelError, match="this safetensors file is incomplete or damaged"):
        stored_dtype(checkpoint)


@pytest.mark.parametrize(
    ("sizes", "number"),
    [({torch.float32: 10}, 10), ({torch.bfloat16: 10, torch.float64: 5, torch.float16: 1, torch.int64: 100}, 16)],
)
def test_the_number_of_weights_counts_all_floating_point_values(tmp_path: Path, sizes: Sizes, number: int) -> None:
    assert num_weights(make_checkpoint(tmp_path / "model", sizes)) == number


def test_the_number_of_weights_covers_all_shards(tmp_path: Path) -> None:
    shards = [{"a": torch.zeros(3, 4)}, {"b": torch.zeros(5), "c": torch.tensor(1.0)}]
    assert num_weights(save_checkpoint(tmp_path / "model", *shards)) == 12 + 5 + 1


def test_the_number_of_weights_of_an_adapter_is_that_of_its_base(tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "base", {torch.bfloat16: 10})
    assert num_weights(make_adapter(tmp_path / "adapter", base)) == 10


def test_the_number_of_weights_is_unknown_without_headers(tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "pytorch_model.bin").write_bytes(b"pickle")
    assert num_weights(Checkpoint("pickled", pickled)) is None
    assert num_weights(Checkpoint("gguf", tmp_path / "model.gguf")) is None


def test_a_light_fine_tune_differs_from_its_reference_in_float32(tmp_path: Path) -> None:
    policy, ref = (save_checkpoint(tmp_path / name, w) for name, w in (("p", light_fine_tune()), ("r", before())))
    found = overlap(policy, ref, "float32")
    assert found is not None
    assert (found.equal_where_trained, found.erased) == (0.0, False)
    assert found.equal == pytest.approx(50 / (200 * 50 + 50 * 50 + 50))


def test_a_light_fine_tune_is_erased_by_rounding_to_bfloat16(tmp_path: Path) -> None:
    policy, ref = (save_checkpoint(tmp_path / name, w) for name, w in (("p", light_fine_tune()), ("r", before())))
    found = overlap(policy, ref, "bfloat16")
    assert found is not None
    assert found.erased
    assert 0.5 < found.equal_where_trained < 0.95


def test_a_heavy_fine_tune_is_not_erased_in_bfloat16(tmp_path: Path) -> None:
    heavy = {name: moved(weight, by=1e-3) for name, weight in before().items()}
    found = overlap(save_checkpoint(tmp_path / "p", heavy), save_checkpoint(tmp_path / "r", before()), "bfloat16")
    assert found is not None
    assert not found.erased


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_frozen_layers_do_not_count_as_erased(tmp_path: Path, dtype: str) -> None:
    frozen = normal(500, 50, seed=3)
    policy = save_checkpoint(tmp_path / "p", {"frozen": frozen, "trained": moved(normal(50, 50), by=1e-2)})
    found = overlap(policy, save_checkpoint(tmp_path / "r", {"frozen": frozen, "trained": normal(50, 50)}), dtype)
    assert found is not None
    assert found.equal == pytest.approx(10 / 11, abs=0.01)
    assert found.equal_where_trained < 0.1
    assert not found.erased


def test_a_few_layers_that_rounding_erases_are_found_among_frozen_ones(tmp_path: Path) -> None:
    frozen = normal(500, 50, seed=3)
    policy = save_checkpoint(tmp_path / "p", {"frozen": frozen, "trained": moved(normal(50, 50))})
    ref = save_checkpoint(tmp_path / "r", {"frozen": frozen, "trained": normal(50, 50)})
    erased = {dtype: overlap(policy, ref, dtype) for dtype in ("float32", "bfloat16")}
    assert [found is not None and found.erased for found in erased.values()] == [False, True]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_copy_is_equal_and_not_erased(tmp_path: Path, dtype: str) -> None:
    found = overlap(save_checkpoint(tmp_path / "p", before()), save_checkpoint(tmp_path / "r", before()), dtype)
    assert found is not None
    assert (found.equal, found.equal_where_trained, found.erased) == (1.0, 0.0, False)


def test_a_reference_stored_in_bfloat16_is_compared_as_stored(tmp_path: Path) -> None:
    narrow = {name: weight.to(torch.bfloat16) for name, weight in before().items()}
    trained = {name: moved(weight.float()) for name, weight in narrow.items()}
    policy, ref = save_checkpoint(tmp_path / "p", trained), save_checkpoint(tmp_path / "r", narrow)
    erased = {dtype: overlap(policy, ref, dtype) for dtype in ("float32", "bfloat16")}
    assert [found is not None and found.erased for found in erased.values()] == [False, True]


def test_sharded_files_are_compared_by_tensor_name(tmp_path: Path) -> None:
    weights = light_fine_tune()
    first, *others = weights
    policy = save_checkpoint(tmp_path / "p", {first: weights[first]}, {name: weights[name] for name in others})
    whole = save_checkpoint(tmp_path / "whole", weights)
    ref = save_checkpoint(tmp_path / "r", before())
    assert overlap(policy, ref, "bfloat16") == overlap(whole, ref, "bfloat16")
    assert overlap(policy, whole, "float32") == overlap(whole, policy, "float32")


def test_large_tensors_are_weighted_by_size_and_not_by_the_rows_read(tmp_path: Path) -> None:
    some = {"large": normal(4000, 3), "small": normal(40, 3)}
    other = {"large": some["large"], "small": some["small"] + 1}
    found = overlap(save_checkpoint(tmp_path / "p", other), save_checkpoint(tmp_path / "r", some), "float32")
    assert found is not None
    assert found.equal == pytest.approx(4000 / 4040)


def test_scalars_are_compared_too(tmp_path: Path) -> None:
    some, other = ({"scale": torch.tensor(value), "weight": torch.ones(3)} for value in (1.0, 2.0))
    found = overlap(save_checkpoint(tmp_path / "p", some), save_checkpoint(tmp_path / "r", other), "float32")
    assert found is not None
    assert found.equal == 0.75


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)], ids=str)
def test_empty_tensors_do_not_prevent_the_comparison(tmp_path: Path, shape: tuple[int, int]) -> None:
    weights = {"empty": torch.zeros(shape), "weight": torch.ones(3)}
    found = overlap(save_checkpoint(tmp_path / "p", weights), save_checkpoint(tmp_path / "r", weights), "float32")
    assert found is not None
    assert found.equal == 1.0


def test_an_adapter_is_not_compared(tmp_path: Path) -> None:
    base = save_checkpoint(tmp_path / "base", before())
    adapter = make_adapter(tmp_path / "adapter", base)
    assert [overlap(adapter, base, "float32"), overlap(base, adapter, "float32")] == [None, None]


def test_a_checkpoint_is_not_compared_with_itself(tmp_path: Path) -> None:
    model = save_checkpoint(tmp_path / "model", before())
    again = Checkpoint("another name", tmp_path / "model" / ".." / "model")
    assert overlap(model, again, "float32") is None


def test_checkpoints_with_different_tensor_names_are_not_compared(tmp_path: Path) -> None:
    renamed = {f"model.{name}": weight for name, weight in before().items()}
    policy, ref = save_checkpoint(tmp_path / "p", renamed), save_checkpoint(tmp_path / "r", before())
    assert overlap(policy, ref, "float32") is None


def test_tensors_of_different_shapes_are_not_compared(tmp_path: Path) -> None:
    longer = {**before(), "embed": normal(300, 50)}
    policy, ref = save_checkpoint(tmp_path / "p", longer), save_checkpoint(tmp_path / "r", before())
    assert overlap(policy, ref, "float32") is None


def test_a_checkpoint_without_safetensors_is_not_compared(tmp_path: Path) -> None:
    ref = save_checkpoint(tmp_path / "r", before())
    assert overlap(Checkpoint("model", tmp_path / "model.gguf"), ref, "float32") is None
    assert overlap(ref, Checkpoint("model", tmp_path / "model.gguf"), "float32") is None


@pytest.mark.parametrize(
    "entry",
    [
        5,
        {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": 5, "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [[0], 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]},
        {"dtype": "F32", "data_offsets": [0, 4]},
    ],
    ids=str,
)
def test_a_header_with_an_entry_that_is_not_a_tensor_is_refused(tmp_path: Path, entry: object) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", {torch.float32: 1})
    header = json.dumps({"lm_head.weight": entry}).encode()
    content = len(header).to_bytes(8, "little") + header + bytes(8)
    (checkpoint.path / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"the entry 'lm_head\.weight' of its header is not a tensor"):
        tensor_shapes(checkpoint)
