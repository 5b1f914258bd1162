"""The documentation is built without a warning, and what stands in it is run as it stands."""

import functools
import http.server
import json
import os
import queue
import re
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.usefixtures("quick_compilation")

# A block that the text after it gives a file's name.
NAMED = r"```(python|yaml)\n((?:(?!```).)*)```\s+With that as `([\w.]+)`"


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


WITH_CODE = [page for page in PAGES if blocks(page, "python") or blocks(page, "sh")]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.stem)
def test_what_stands_there_is_run(page, tmp_path, monkeypatch, call):
    """Files first, under the names that the page gives them; then code; then commands in order."""
    (tmp_path / "agents").symlink_to(ROOT / "agents")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for _, text, name in re.findall(NAMED, page.read_text(), re.DOTALL):
        (tmp_path / name).write_text(text)
    for code in blocks(page, "python"):
        if "gymnasium.register" not in code:  # In a file of its own, which the commands import.
            exec(compile(code, str(page), "exec"), {})
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "valuelearn"
            call(*arguments)


@pytest.mark.parametrize(
    "script", sorted((ROOT / "docs" / "examples").glob("*.py")), ids=lambda path: path.stem
)
def test_an_example_runs(script):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "nan" not in done.stdout or script.stem == "ravl_plane"  # Where no rollout came to the edge yet.


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build = ("-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", ROOT / "docs", folder)
    done = subprocess.run([sys.executable, *build], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_is_built_without_a_warning(site):
    formulas = [
        one for page in site.rglob("*.html") for one in re.findall(r"<math.*?</math>", page.read_text())
    ]
    assert len(formulas) > 50 and not [one for one in formulas if "\\" in one]  # What could not be drawn.
    assert (site / "api" / "heads.html").exists()
    assert len(list((site / "_images").glob("*.png"))) >= 5


@pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")
def test_pages_are_readable_on_a_phone_and_link_to_what_is_there(site, tmp_path):
    pages = [
        f"/{page.relative_to(site)}" for page in sorted(site.rglob("*.html")) if "_modules" not in page.parts
    ]
    script = (ROOT / "tests" / "browse.js").read_text()
    (site / "browse.html").write_text(
        f"<!doctype html><body><script>{script}; browse({json.dumps(pages)})</script>"
    )
    with http.server.ThreadingHTTPServer(
        ("localhost", 0), functools.partial(_Site, directory=site)
    ) as server:
        server.found = queue.Queue()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://localhost:{server.server_port}/browse.html"
        # It listens, so that it stays until it is told to go.
        options = ("--headless", "--no-sandbox", "--remote-debugging-port=0", f"--user-data-dir={tmp_path}")
        with subprocess.Popen([BROWSER, *options, address], stderr=subprocess.DEVNULL) as browser:
            try:
                found = json.loads(server.found.get(timeout=300))
            finally:
                browser.terminate()
        server.shutdown()
    assert found["links"] > 20
    assert found["faults"] == []


class _Site(http.server.SimpleHTTPRequestHandler):
    """The site's files, and a place to send what was found."""

    def do_POST(self):
        self.server.found.put(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments):
        pass
