"""Take the pictures of the HTML pages in docs/_static anew: `python docs/report_pictures.py`.

It needs Chromium, playwright and Pillow. The picture of `costax join` needs the oracle of the A100 beside the
repository; without it that picture stays as it is.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "docs" / "_static"
STEP = ROOT.parent / "shared" / "oracles" / "a100_step"
# By picture: the command that writes its page; the theme; the section at its top; the height. All are 1,200 wide.
PICTURES: Mapping[str, tuple[Sequence[str], str, str, int]] = {
    "report-top.png": (("compare", "examples/gpt2.py:gpt2_train_step"), "light", "", 730),
    "report-top-dark.png": (("compare", "examples/gpt2.py:gpt2_train_step"), "dark", "", 730),
    "report-light.png": (("compare", "examples/gpt2.py:gpt2_train_step"), "light", "", 1400),
    "report-dark.png": (("compare", "examples/gpt2.py:gpt2_train_step"), "dark", "#layers-section", 1300),
    "join-a100.png": (
        (
            *("join", str(STEP / "after_optimizations.hlo.pb.xz"), "--trace", str(STEP / "kernel_times.csv")),
            *("--step", "0.127465", "--device", "a100-sxm-40"),
        ),
        "light",
        "",
        1000,
    ),
}


def main() -> None:
    """Write the pages with the command line, open each in Chromium and take its picture."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for name, (command, theme, top, height) in PICTURES.items():
            if command[0] == "join" and not STEP.is_dir():
                print(f"{name} stays: there is no {STEP.name} beside the repository.")
                continue
            page_file = Path(folder) / f"{'-'.join(command[:1])}.html"
            if not page_file.exists():
                words = [sys.executable, "-m", "costax", *command, "--save", str(page_file)]
                subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            page = chromium.new_page(viewport={"width": 1200, "height": height}, color_scheme=theme)
            page.goto(page_file.as_uri())
            page.wait_for_selector("html[data-ready=true]")
            if top:
                page.eval_on_selector(top, "section => section.scrollIntoView()")
            image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            image.quantize(128).save(STATIC / name, optimize=True)
        chromium.close()


if __name__ == "__main__":
    main()
