"""A Chromium without a window, and pages in it that notice everything that goes wrong."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.integration.appliance import DIGITS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PICTURE = DIGITS / "samples" / "digit-3-1.png"
WATCHDOG_MS = 30_000


@dataclass
class Visit:
    """A page in its own browser profile.

    Attributes:
        page: to be driven.
        problems: what the console reported as an error, failed policies included.
        hosts: that anything was asked of.
    """

    page: Page
    problems: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def drop(self, file: Path, kind: str = "image/png") -> None:
        """Drops a file on the page as a pointer does."""
        data = self.page.evaluate_handle(
            """([name, type, text]) => {
                const bytes = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
                const data = new DataTransfer();
                data.items.add(new File([bytes], name, { type }));
                return data;
            }""",
            [file.name, kind, base64.b64encode(file.read_bytes()).decode()],
        )
        self.page.dispatch_event("#drop", "dragover", {"dataTransfer": data})
        self.page.dispatch_event("#drop", "drop", {"dataTransfer": data})

    def classify_again(self) -> None:
        """Asks once more and waits for the answer."""
        with self.page.expect_response("**/classify"):
            self.page.click("button.main")
        self.page.wait_for_selector("#result[aria-busy=false]")

    def await_result(self) -> None:
        """Waits until labels are there."""
        self.page.wait_for_selector("#labels tr", state="visible")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Starts the Chromium that is installed."""
    # Imported here: the other tests don't need the package.
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium")
    assert found, "no chromium on PATH; install Debian's package 'chromium'"
    grey = "--disable-lcd-text"  # coloured edges of letters would treble the size of a picture
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=found, args=[grey]) as made,
    ):
        yield made


@contextmanager
def visit(
    browser: Browser, url: str, *, theme: str = "light", width: int = 1000, scale: float = 1.0
) -> Iterator[Visit]:
    """Opens the page.

    Its certificate is self-signed and in no store; that clients verify it is tested elsewhere.
    """
    with browser.new_context(
        ignore_https_errors=True,
        color_scheme="dark" if theme == "dark" else "light",
        viewport={"width": width, "height": 800},
        device_scale_factor=scale,
    ) as context:
        context.set_default_timeout(WATCHDOG_MS)
        found = Visit(context.new_page())
        found.page.on(
            "console",
            lambda message: (
                found.problems.append(message.text)
                if message.type in ("error", "warning")
                else None
            ),
        )
        found.page.on("pageerror", lambda error: found.problems.append(str(error)))
        found.page.on("request", lambda request: found.hosts.add(request.url.split("/")[2]))
        found.page.goto(url)
        yield found
