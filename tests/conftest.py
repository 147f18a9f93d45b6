"""Pages in a real browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    # the page and the frame around it are both local files
    "--allow-file-access-from-files",
    # nothing may come from the network
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--virtual-time-budget=20000",
]
#: a window cannot be as narrow as a phone, but a frame can
FRAME = """<body style="margin: 0"><script>
addEventListener("message", (message) => { document.body.dataset.seen = JSON.stringify(message.data); });
</script><iframe src="PAGE" width="WIDTH" height="HEIGHT" style="border: 0; display: block"></iframe>"""


class OpenedPage(NamedTuple):
    """What a browser shows of a page.

    Attributes:
        seen: the message that a script in the page posts to its parent.
        console: messages of the browser's console.
        pixels: (H, W, 3) screenshot.
    """

    seen: dict[str, Any]
    console: list[str]
    pixels: NDArray[np.uint8]


@pytest.fixture(scope="session")
def open_in_browser(tmp_path_factory) -> Callable[..., OpenedPage]:
    """A function of a local page, width and height, and of the query of its address: opens it in headless Chromium."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium: apt-get install chromium")

    def open_page(page: Path, width: int, height: int, query: str = "") -> OpenedPage:
        folder = tmp_path_factory.mktemp("browser")
        frame, screenshot = page.with_name("_frame.html"), folder / "screenshot.png"
        text = FRAME.replace("PAGE", page.name + query).replace("WIDTH", str(width)).replace("HEIGHT", str(height))
        frame.write_text(text, encoding="utf-8")
        options = [f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}"]
        command = [browser, *FLAGS, *options, f"--screenshot={screenshot}", "--dump-dom", frame.as_uri()]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        finally:
            frame.unlink()
        seen = re.search(r'data-seen="([^"]*)"', done.stdout)
        assert seen, f"the page did not load:\n{done.stdout}\n{done.stderr}"
        console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        with Image.open(screenshot) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        return OpenedPage(json.loads(html.unescape(seen[1])), console, pixels)

    return open_page
