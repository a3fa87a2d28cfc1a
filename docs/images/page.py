"""Takes report.png, the picture of a page of `ddl report`: python docs/images/page.py

The runs are the made-up ones of `deep_delta.explore.demonstration`; nothing in them was measured. Needs the extra
`report`, and chromium, chromium-browser or google-chrome on the PATH.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deep_delta.explore import open_paths
from deep_delta.explore.demonstration import demonstration
from deep_delta.report import write_page

PICTURE = Path(__file__).with_name("report.png")
WIDTH, HEIGHT = 1160, 1262


def main() -> None:
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((found for name in names if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"none of {', '.join(names)} is on the PATH")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        write_page(open_paths(demonstration(Path(folder))).read_all(), page)
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=20000"]
        place = [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={PICTURE}", f"--user-data-dir={folder}/profile"]
        subprocess.run([browser, *flags, *place, page.as_uri()], check=True, capture_output=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
