"""An object store for tests: moto's S3 server in a thread, which records requests and can refuse some."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pytest
from pyarrow import fs

SECRET = "hush%2Fhush"  # noqa: S105 (of nothing)
BUCKET = "bucket"
Answer: TypeAlias = Iterable[bytes]
REFUSED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@dataclass
class Store:
    """A server with one bucket."""

    port: int
    filesystem: fs.FileSystem
    requests: list[str] = field(default_factory=list)
    """Method and path, with the prefix of a listing."""
    refuses: Callable[[str], bool] = lambda _: False
    """Whether a request is answered by 403."""

    def url(self, folder: str, bucket: str = BUCKET) -> str:
        """Return the URL of a folder, with credentials."""
        options = f"endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"
        return f"s3://key:{SECRET}@{bucket}/{folder}?{options}"

    def parts(self, folder: str) -> dict[str, bytes]:
        """Return the content of all parts in a folder by their paths."""
        return {path: found for path, found in self.files(folder).items() if path.endswith(".parquet")}

    def files(self, folder: str) -> dict[str, bytes]:
        """Return the content of all files in a folder by their paths."""
        place = f"{BUCKET}/{folder}"
        found = self.filesystem.get_file_info(fs.FileSelector(place, recursive=True))
        paths = sorted(one.path for one in found if one.type == fs.FileType.File)
        return {path.removeprefix(f"{place}/"): self.filesystem.open_input_stream(path).read() for path in paths}

    def put(self, path: str, content: bytes) -> None:
        """Write a file."""
        with self.filesystem.open_output_stream(f"{BUCKET}/{path}") as stream:
            stream.write(content)

    def copy(self, folder: str, to: str) -> None:
        """Copy all files of a folder."""
        for path, content in self.files(folder).items():
            self.put(f"{to}/{path}", content)


@contextmanager
def running_store() -> Iterator[Store]:
    """Yield a running store; skip the test if moto is not installed."""
    reason = "the S3 server of moto is not installed"
    server = pytest.importorskip("moto.server", reason=reason, exc_type=ImportError)
    serving = pytest.importorskip("werkzeug.serving", reason=reason)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = server.DomainDispatcherApplication(server.create_backend_app)

    def watched(environment: Mapping[str, Any], start: Callable[..., Any]) -> Answer:
        prefix = [part for part in environment["QUERY_STRING"].split("&") if part.startswith("prefix=")]
        request = " ".join([environment["REQUEST_METHOD"], environment["PATH_INFO"], *prefix])
        store.requests.append(request)
        if store.refuses(request):
            environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
            start("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(REFUSED)))])
            return [REFUSED]
        found: Answer = application(environment, start)
        return found

    listening = serving.make_server("127.0.0.1", 0, watched, threaded=True)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    port = listening.socket.getsockname()[1]
    endpoint = f"endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
    filesystem, _ = fs.FileSystem.from_uri(f"s3://other:key@{BUCKET}?{endpoint}&allow_bucket_creation=true")
    store = Store(port, filesystem)
    thread.start()
    filesystem.create_dir(BUCKET)
    try:
        yield store
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
