"""Parts in an object store, through pyarrow. A file is written with one PUT, which is atomic.

Object stores cannot rename. Files that belong together are in a folder named after the content of their index, and the
index is written last: with two concurrent writers, readers see the files of one of them, never a mixture.
"""

from __future__ import annotations

import hashlib
import mmap
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
from pyarrow import fs

from prefscope.errors import ResourceError, UsageError
from prefscope.pipeline.parts.places import Fill, without_secrets

_SINGLE_PUT = "allow_delayed_open=true"
_COPY_BYTES = 8 << 20
_LONGEST_REASON = 240
_NOISE = re.compile(
    r"^When .*?(?=AWS Error)|google::cloud::Status\(|(\s*\(Request ID:|; Details:| error_info=).*", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """A prefix of a bucket."""

    filesystem: fs.FileSystem
    prefix: str
    """Bucket and folder."""
    url: str
    """URL without credentials."""

    @property
    def is_sound(self) -> bool:
        """Always true: a PUT is atomic, and object stores keep checksums."""
        return True

    def shown(self, path: str = "") -> str:
        """Return the URL of a file, or of the prefix."""
        return f"{self.url.partition('?')[0].rstrip('/')}/{path}" if path else self.url

    def files(self, folder: str) -> list[str]:
        """Return the paths of all files below a folder, relative to it and sorted; one request per thousand files.

        Empty files are ignored: this program writes none, and some stores represent folders as empty files.
        """
        top = f"{self.prefix}/{folder}/"
        with self._store_errors(folder, "listed"):
            found = self.filesystem.get_file_info(fs.FileSelector(top, allow_not_found=True, recursive=True))
        return sorted(one.path.removeprefix(top) for one in found if one.type == fs.FileType.File and one.size)

    def open(self, path: str) -> IO[bytes]:
        """Fetch a file into an unlinked temporary file, which is freed when it is closed."""
        with self._store_errors(path, "read", FileNotFoundError):
            fetched = tempfile.TemporaryFile(prefix="prefscope-")  # noqa: SIM115 (the caller closes it)
            try:
                with self.filesystem.open_input_stream(f"{self.prefix}/{path}") as stream:
                    shutil.copyfileobj(stream, fetched, _COPY_BYTES)
                fetched.seek(0)
            except BaseException:
                fetched.close()
                raise
        return fetched

    def publish(self, path: str, content: bytes | memoryview) -> None:
        """Write a file atomically."""
        with self._store_errors(path, "written"), self.filesystem.open_output_stream(f"{self.prefix}/{path}") as stream:
            stream.write(content)  # in one call: closing a stream halfway would publish a partial file

    def publish_together(self, folder: str, index: str, files: Mapping[str, Fill]) -> None:
        """Write files to temporary storage, then upload them, the index last; an existing index is kept."""
        with self._store_errors(folder, "written"), ExitStack() as opened:
            made = {name: opened.enter_context(_filled(fill)) for name, fill in files.items()}
            content = bytes(made.pop(index))
            content_folder = self.content_folder(f"{folder}/{index}", content)
            for name, mapped in made.items():
                self.publish(f"{content_folder}/{name}", mapped)
            if index not in self.files(folder):
                self.publish(f"{folder}/{index}", content)

    def content_folder(self, index: str, content: bytes) -> str:
        """Return the folder that is named after the content of an index."""
        return f"{index.rpartition('/')[0]}/{hashlib.blake2b(content, digest_size=8).hexdigest()}"

    def delete(self, path: str) -> None:
        """Delete a file, if it exists."""
        with suppress(FileNotFoundError), self._store_errors(path, "deleted", FileNotFoundError):
            self.filesystem.delete_file(f"{self.prefix}/{path}")

    @contextmanager
    def _store_errors(self, path: str, done: str, *passed: type[OSError]) -> Iterator[None]:
        """Turn errors of the store, the network or the temporary folder into `ResourceError`, except those `passed`."""
        try:
            yield
        except passed:
            raise
        except (OSError, pa.ArrowException) as error:
            raise ResourceError(
                f"The object store's files cannot be {done} ({_reason(error)})",
                where=self.shown(path),
                hint="Check the network, the credentials and the bucket, then run the same command again to continue.",
            ) from error


@contextmanager
def _filled(fill: Fill) -> Iterator[memoryview]:
    """Provide the content of a file as a memory map, as it may be larger than memory."""
    with tempfile.TemporaryFile(prefix="prefscope-") as stream:
        fill(stream)
        stream.flush()
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as content:
            yield content


def open_store(url: str) -> ObjectStore:
    """Open the object store and folder of a URL.

    Raises:
        UsageError: If the URL is invalid.
        ResourceError: If the store cannot be reached, or the bucket does not exist.
    """
    shown = without_secrets(url)
    try:
        filesystem, prefix = _filesystem(url)
        bucket = prefix.partition("/")[0]
        if not bucket:
            raise UsageError("This URL has no bucket", where=shown, hint="Write s3://BUCKET/FOLDER.")
        is_there = True
        with suppress(OSError):  # access to part of a bucket does not imply access to the bucket itself
            is_there = filesystem.get_file_info(bucket).type != fs.FileType.NotFound
    except pa.ArrowInvalid as error:
        raise UsageError(
            f"This URL is invalid ({_reason(error)})",
            where=shown,
            hint="Write s3://BUCKET/FOLDER; characters such as / in a key must be written as %2F.",
        ) from error
    except OSError as error:
        hint = "Check the network, the credentials and the bucket's name."
        raise ResourceError(f"The object store cannot be used ({_reason(error)})", where=shown, hint=hint) from error
    if not is_there:
        raise ResourceError(
            "The object store has no such bucket", where=shown, hint="Create it first, or check its name."
        )
    return ObjectStore(filesystem, prefix.rstrip("/"), shown)


def _filesystem(url: str) -> Any:
    """Return pyarrow's file system and path for a URL; for S3, small files are written in one request if supported."""
    if url.lower().startswith("s3:"):
        with suppress(pa.ArrowInvalid):
            return fs.FileSystem.from_uri(f"{url}{'&' if '?' in url else '?'}{_SINGLE_PUT}")
    return fs.FileSystem.from_uri(url)


def _reason(error: BaseException) -> str:
    """Return pyarrow's error message without credentials, shortened."""
    text = _NOISE.sub("", without_secrets(str(error))).strip().rstrip(".")
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"
