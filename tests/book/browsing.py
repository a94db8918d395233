"""Chromium, and a server for what it opens."""

import functools
import http.server
import shutil
import threading
from contextlib import contextmanager

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
PAGE_MS = 300_000  # to open a page or find something in it; a busy machine is no failure


def open_page(browser, **settings):
    """Open an empty page that shares nothing with others; ``settings`` are playwright's."""
    page = browser.new_context(**settings).new_page()
    page.set_default_timeout(PAGE_MS)
    return page


@contextmanager
def serve(folder):
    """Serve a folder as ``python -m http.server`` does, without printing; yield its address."""
    handler = functools.partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass
