"""Slices fill an object store as they fill a folder: the same parts and ledger, few requests, no secrets shown."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.functional.dispatch.object_store import BUCKET, Store
from tests.functional.dispatch.processes import wait_until
from tests.functional.dispatch.shards import (
    LIMIT,
    OPTIONS,
    Program,
    assert_damage_is_reported_and_recomputed,
    call,
    fill,
    merged_table,
    parts_in,
    slice_command,
    start,
)

pytestmark = [pytest.mark.exhaustive, pytest.mark.usefixtures("shards_by_tokens")]
MODELS = 2


@pytest.fixture(scope="module")
def folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that a single run has filled."""
    folder = tmp_path_factory.mktemp("single") / "folder"
    assert call("score", data, *OPTIONS, "--no-cache", "--parts", folder, "-o", folder.with_name("all.csv")) == 0
    return folder


@pytest.fixture(scope="module")
def filled(store: Store, data: Path) -> str:
    """Return the URL that two slices have filled."""
    fill(data, store.url("filled"))
    return store.url("filled")


@pytest.fixture
def copied(store: Store, filled: str, tmp_path: Path) -> str:  # noqa: ARG001 (it is there by then)
    """Return the name of a folder of parts in the bucket that a test may modify."""
    name = f"copied/{tmp_path.name}"
    store.copy("filled", name)
    return name


def is_part(request: str) -> bool:
    """Return whether a request writes a part."""
    return request.startswith("PUT") and request.endswith(".parquet")


def test_slices_at_a_url_give_the_parts_of_a_folder_and_the_table_of_a_single_run(
    store: Store, filled: str, folder: Path, whole: bytes
) -> None:
    assert store.parts("filled") == parts_in(folder)
    assert merged_table(filled) == whole


def test_running_a_slice_again_computes_nothing_and_sends_one_request_per_model(
    store: Store, filled: str, data: Path, program: Program
) -> None:
    store.requests.clear()
    code, _, err = program(*slice_command(data, filled, "0/2"))
    assert (code, err.count("all parts are complete"), "to compute" in err) == (0, 1, False)
    assert [one for one in store.requests if one.startswith("PUT")] == []
    assert [one for one in store.requests if ".parquet" in one] == []
    listings = [one for one in store.requests if "prefix=filled%2Fparts%2F" in one]
    assert len(listings) == MODELS + 1  # the slice's, and that of the status that ends it


def test_the_status_fetches_neither_parts_nor_pairs(store: Store, filled: str, program: Program) -> None:
    store.requests.clear()
    code, out, _ = program("parts", "status", filled, "--json")
    found = json.loads(out)
    (one,) = found["runs"]
    assert (code, found["pairs"], one["missing"]) == (0, LIMIT, 0)
    assert found["shards"] > 4
    assert one["shards"] == {"policy": found["shards"], "ref": found["shards"]}
    fetched = {one.rpartition("/")[2] for one in store.requests if one.startswith("GET") and "prefix=" not in one}
    assert fetched == {"plan.json", f"{one['run']}.json"}


def test_a_truncated_part_is_detected_refused_and_recomputed(
    store: Store, copied: str, data: Path, whole: bytes, program: Program
) -> None:
    path, content = list(store.parts(copied).items())[1]
    store.put(f"{copied}/{path}", content[:-20])
    name = f"s3://…@{BUCKET}/{copied}/{path}"
    assert_damage_is_reported_and_recomputed(program, name, data, store.url(copied), whole, named=name)


def test_parts_that_cannot_be_fetched_do_not_count_as_damaged(store: Store, copied: str, program: Program) -> None:
    before = store.parts(copied)
    store.refuses = lambda request: request.endswith(".parquet")
    code, out, err = program("parts", "verify", store.url(copied), "--delete")
    store.refuses = lambda _: False
    assert (code, out) == (3, "")
    assert "the object store's files cannot be read" in err
    assert store.parts(copied) == before


def test_a_failed_upload_is_reported_and_only_its_shard_is_recomputed(
    store: Store, data: Path, whole: bytes, program: Program
) -> None:
    url = store.url("refused")
    store.requests.clear()
    store.refuses = lambda request: is_part(request) and sum(map(is_part, store.requests)) > 3
    code, out, err = program(*slice_command(data, url, "0/1"))
    store.refuses = lambda _: False
    assert (code, out) == (3, "")
    assert f"s3://…@{BUCKET}/refused/parts/" in err
    assert "files cannot be written" in err
    assert "to continue." in err
    kept = store.parts("refused")
    assert len(kept) == 3
    store.requests.clear()
    assert call("score", data, *OPTIONS, "--no-cache", "--parts", url, "-o", "all.csv") == 0
    written = {one.partition("refused/")[2] for one in store.requests if is_part(one)}
    assert written == store.parts("refused").keys() - kept.keys()
    assert Path("all.csv").read_bytes() == whole


@pytest.mark.parametrize("name", ["plan.json", "order.npz", "pairs.arrow", "tokens.json"])
def test_a_damaged_plan_is_reported(name: str, store: Store, copied: str, program: Program) -> None:
    ((path, content),) = [one for one in store.files(f"{copied}/plan").items() if one[0].endswith(name)]
    store.put(f"{copied}/plan/{path}", content[: len(content) // 2])
    code, out, err = program("parts", "merge", store.url(copied), "-o", "merged.parquet")
    assert (code, out) == (3, "")
    assert "the plan of these parts is damaged" in err


def test_the_first_plan_at_a_url_is_kept(
    store: Store, filled: str, data: Path, models: list[str], program: Program
) -> None:
    before = store.files("filled/plan")
    code, _, err = program("parts", "plan", filled, data, *models, "--limit", "7")
    assert (code, "a different limit: 40 there, 7 now" in err) == (2, True)
    assert store.files("filled/plan") == before


def test_credentials_are_never_shown(
    store: Store, data: Path, filled: str, models: list[str], tmp_path: Path, program: Program
) -> None:
    said = [
        program("parts", "plan", store.url("secret"), data, *models, "--limit", "4"),
        program(*slice_command(data, filled, "0/2")),
        program("score", data, *OPTIONS, "--no-cache", "--parts", filled, "-o", "secret.parquet"),
        program("parts", "status", filled),
        program("parts", "merge", filled, "-o", "merged.parquet"),
        program("parts", "status", store.url("nothing")),
        program("parts", "status", store.url("run", bucket="none")),
        program("parts", "status", store.url("run").replace("%2F", "/")),
        program("parts", "status", f"{store.url('run')}&session=hush"),
    ]
    assert [code for code, _, _ in said] == [0, 0, 0, 0, 0, 2, 3, 2, 2]
    told = "".join(out + err for _, out, err in said)
    assert told.count("s3://…@") >= len(said)
    assert "hush" not in told
    files = [path.read_bytes() for path in tmp_path.iterdir()] + [*store.files("filled").values()]
    assert [one for one in files if b"hush" in one] == []


@pytest.mark.parametrize(
    ("url", "code", "told"),
    [
        pytest.param("s3://key:s@none/run?{}", 3, "the object store has no such bucket", id="bucket"),
        pytest.param("s3://?{}", 2, "has no bucket", id="no bucket"),
        pytest.param("s3://k:a/b@bucket/run", 2, "characters such as / in a key must be written as %2F", id="slash"),
        pytest.param("s3:/bucket/run", 2, "Write s3://BUCKET/FOLDER", id="one slash"),
        pytest.param("ftp://host/run", 2, "parts cannot be stored at ftp://", id="scheme"),
        pytest.param("file://host/run", 2, "not a folder on this machine", id="host"),
        pytest.param("s3://bucket/run?{}&colour=blue", 2, "Unexpected query parameter", id="option"),
    ],
)
def test_an_unusable_url_is_reported_before_anything_is_read(
    url: str, code: int, told: str, store: Store, program: Program
) -> None:
    options = store.url("").partition("?")[2]
    for command in (["parts", "status"], ["score", "nowhere.jsonl", *OPTIONS, "--parts"]):
        found, out, err = program(*command, url.format(options))
        assert (found, out) == (code, "")
        assert told in err
        assert err.count("prefscope: ") == 1


def test_a_file_url_names_a_folder(folder: Path, tmp_path: Path, data: Path, whole: bytes) -> None:
    there = tmp_path / "with space"
    url = f"file://{str(there).replace(' ', '%20')}"
    fill(data, url)
    assert parts_in(there) == parts_in(folder)
    assert {path.name for path in (there / "plan").iterdir()} == {path.name for path in (folder / "plan").iterdir()}
    assert merged_table(url) == whole


def test_killed_slices_leave_only_whole_parts_and_the_next_run_finishes_them(
    store: Store, data: Path, folder: Path, whole: bytes, tmp_path: Path
) -> None:
    """Both start at the same time, so that both make the plan, and are killed once there are some parts."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    store.requests.clear()
    commands = [slice_command(data, store.url("killed"), f"{number}/2") for number in range(2)]
    processes = [start(*command, environment={"TMPDIR": str(temporary)}) for command in commands]
    wait_until(lambda: sum(map(is_part, [*store.requests])) > 2, seconds=300)
    for process in processes:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    found, expected = store.parts("killed"), parts_in(folder)
    assert found.items() <= expected.items()
    assert len(found) > 1
    assert [path.name for path in temporary.iterdir() if path.name.startswith("prefscope-")] == []
    fill(data, store.url("killed"))
    assert store.parts("killed") == expected
    assert merged_table(store.url("killed")) == whole
