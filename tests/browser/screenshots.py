"""Takes the pictures of the page that the README shows: `python -m tests.browser.screenshots`."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from PIL import Image

from tests.browser.pages import PICTURE, chromium, visit
from tests.integration.appliance import ROOT, prepare, running

FOLDER = ROOT / "docs"


def main() -> None:
    """Writes one picture for each theme."""
    FOLDER.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        running(prepare(Path(folder))) as appliance,
        chromium() as browser,
    ):
        for theme in ("light", "dark"):
            with visit(browser, appliance.url, theme=theme, width=760) as found:
                found.page.wait_for_selector("#model option", state="attached")
                found.drop(PICTURE)
                found.await_result()
                for _ in range(3):  # the first requests of a process are slower
                    found.classify_again()
                _save(found.page.screenshot(full_page=True), FOLDER / f"page-{theme}.png")


def _save(png: bytes, path: Path) -> None:
    """Keeps 256 colours: a third of the size, and none is off by more than five of 255."""
    with Image.open(io.BytesIO(png)) as picture:
        reduced = picture.convert("RGB").quantize(
            256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
    reduced.save(path, optimize=True)


if __name__ == "__main__":
    main()
