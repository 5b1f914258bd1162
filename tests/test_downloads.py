"""Downloads from a server of our own in another process, which dies, lies and forgets as asked."""

import hashlib
import json
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest

from envs.datasets import DatasetError, download
from envs.datasets.download import Source, fetch
from tests.commands import call

DATA = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8).tobytes()
HASH = hashlib.sha256(DATA).hexdigest()

# /whole answers any range; /plain knows no ranges; /dies ends each answer after a million bytes;
# /vague does not say of how many bytes it sends a part;
# /never ends after 1000 bytes and knows no ranges; /page is a web page; /asked tells what was asked.
SERVER = """
import json, re, sys
import numpy as np
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DATA = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8).tobytes()
asked = []

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/asked":
            return self.answer(200, json.dumps(asked).encode(), "application/json")
        wanted = self.headers.get("Range")
        asked.append([self.path, wanted])
        start = int(re.match(r"bytes=(\\d+)-", wanted)[1]) if wanted else 0
        if self.path == "/page":
            return self.answer(200, b"<html>Please log in</html>", "text/html; charset=utf-8")
        if self.path == "/gone":
            return self.send_error(404)
        if self.path == "/never":
            return self.answer(200, DATA, most=1000)
        if self.path == "/plain" or not start:
            return self.answer(200, DATA, most=10**6 if self.path == "/dies" else None)
        if start >= len(DATA):
            return self.answer(416, b"", told=f"bytes */{len(DATA)}")
        told = f"bytes {start}-{len(DATA) - 1}/{'*' if self.path == '/vague' else len(DATA)}"
        self.answer(206, DATA[start:], most=10**6 if self.path == "/dies" else None, told=told)

    def answer(self, code, data, kind="application/octet-stream", most=None, told=None):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if told:
            self.send_header("Content-Range", told)
        self.end_headers()
        self.wfile.write(data[:most])
        self.close_connection = True

    def log_message(self, *args):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def server():
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    process.kill()
    process.wait()
    process.stdout.close()


def asked(server):
    with urllib.request.urlopen(f"{server}/asked") as answer:
        return [tuple(one) for one in json.load(answer)]


def source(server, *names, sha256=HASH):
    return Source("a.hdf5", tuple(f"{server}/{name}" for name in names), sha256)


def quiet(text):
    pass


def test_a_file_is_downloaded_once(server, tmp_path):
    for _ in range(2):
        file = fetch(source(server, "whole"), tmp_path / "new", echo=quiet)
        assert file.read_bytes() == DATA
    assert asked(server) == [("/whole", None)]
    assert {path.name for path in file.parent.iterdir()} == {"a.hdf5", "a.hdf5.sha256"}


def test_a_server_that_dies_half_way_is_asked_for_the_rest(server, tmp_path):
    assert fetch(source(server, "dies"), tmp_path, echo=quiet).read_bytes() == DATA
    assert asked(server) == [("/dies", None), ("/dies", "bytes=1000000-"), ("/dies", "bytes=2000000-")]


def test_a_later_call_goes_on_where_an_earlier_one_broke_off(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TRIES", 1)
    for _ in range(2):
        with pytest.raises(DatasetError, match=r"the connection ended after \d+ of 3000000 bytes"):
            fetch(source(server, "dies"), tmp_path, echo=quiet)
        assert not (tmp_path / "a.hdf5").exists()
    assert fetch(source(server, "dies"), tmp_path, echo=quiet).read_bytes() == DATA


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    url = f"{server}/plain"
    draft = tmp_path / f".a.hdf5.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part"
    draft.write_bytes(b"half of it")
    assert fetch(source(server, "plain"), tmp_path, echo=quiet).read_bytes() == DATA


def test_a_part_of_nobody_knows_what_is_not_taken_for_the_file(server, tmp_path):
    url = f"{server}/vague"
    draft = tmp_path / f".a.hdf5.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part"
    draft.write_bytes(DATA[:1000])
    assert fetch(source(server, "vague", sha256=None), tmp_path, echo=quiet).read_bytes() == DATA
    assert asked(server) == [("/vague", "bytes=1000-"), ("/vague", None)]


def test_a_draft_that_is_whole_is_not_fetched_again(server, tmp_path):
    url = f"{server}/whole"
    draft = tmp_path / f".a.hdf5.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part"
    draft.write_bytes(DATA)
    assert fetch(source(server, "whole"), tmp_path, echo=quiet).read_bytes() == DATA
    assert asked(server) == [("/whole", f"bytes={len(DATA)}-")]


def test_a_draft_longer_than_the_file_is_thrown_away(server, tmp_path):
    url = f"{server}/whole"
    draft = tmp_path / f".a.hdf5.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part"
    draft.write_bytes(DATA + b"more")
    assert fetch(source(server, "whole"), tmp_path, echo=quiet).read_bytes() == DATA


def test_mirrors_are_tried_in_turn_and_all_are_named(server, tmp_path):
    names = ("gone", "page", "never", "whole")
    told = []
    assert fetch(source(server, *names), tmp_path / "one", echo=told.append).read_bytes() == DATA
    assert told == [f"from {server}/{name}" for name in names]
    with pytest.raises(DatasetError) as error:
        fetch(source(server, *names[:3]), tmp_path / "two", echo=quiet)
    sentence = str(error.value)
    for part in (
        f"{server}/gone (404 Not Found)",
        f"{server}/page (a web page came in place of the file)",
        f"{server}/never (the connection ended after 1000 of 3000000 bytes)",
        f"put the file at {tmp_path / 'two' / 'a.hdf5'} by hand",
    ):
        assert part in sentence


def test_a_wrong_hash_is_refused_and_nothing_kept(server, tmp_path):
    with pytest.raises(DatasetError, match=f"its SHA-256 is {HASH}, and {'0' * 64} is wanted"):
        fetch(source(server, "whole", sha256="0" * 64), tmp_path, echo=quiet)
    assert not [*tmp_path.iterdir()]


def test_an_unpublished_hash_is_that_of_the_first_download(server, tmp_path):
    file = fetch(source(server, "whole", sha256=None), tmp_path, echo=quiet)
    assert (tmp_path / "a.hdf5.sha256").read_text() == f"{HASH}  a.hdf5\n"
    file.write_bytes(DATA[:-1])
    with pytest.raises(DatasetError, match=r"SHA-256 is .* is wanted; remove it, or a\.hdf5\.sha256"):
        fetch(source(server, "whole", sha256=None), tmp_path, echo=quiet)
    file.unlink()
    (tmp_path / "a.hdf5.sha256").write_text("f" * 64 + "  a.hdf5\n")
    with pytest.raises(DatasetError, match="it could not be downloaded"):
        fetch(source(server, "whole", sha256=None), tmp_path, echo=quiet)


def test_offline_nothing_is_asked(server, tmp_path):
    with pytest.raises(DatasetError, match="the network is not to be used; put the file at"):
        fetch(source(server, "whole"), tmp_path, offline=True, echo=quiet)
    (tmp_path / "a.hdf5").write_bytes(DATA)
    assert fetch(source(server, "whole"), tmp_path, offline=True, echo=quiet) == tmp_path / "a.hdf5"
    assert asked(server) == []


def test_no_server_and_one_that_is_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        urls = ("http://127.0.0.1:9/a", f"http://127.0.0.1:{silent.getsockname()[1]}/a")
        begin = time.monotonic()
        with pytest.raises(DatasetError, match=r"127.0.0.1:9/a \(.*refused\).*timed out"):
            fetch(Source("a.hdf5", urls), tmp_path, echo=quiet)
        assert time.monotonic() - begin < 10


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot be written"):
        fetch(Source("a.hdf5", ()), tmp_path / "file" / "folder", echo=quiet)


def test_names_of_d4rl(tmp_path, monkeypatch, capsys):
    wanted = download.named("walker2d-medium-replay-v2")
    assert wanted.file == "walker2d_medium_replay-v2.hdf5"
    assert all(url.endswith(f"/{wanted.file}") for url in wanted.urls)
    call("dataset", "download", "walker2-medium-v2", "--into", tmp_path, code=2)
    assert "did you mean 'walker2d-medium-v2'?" in capsys.readouterr().err
