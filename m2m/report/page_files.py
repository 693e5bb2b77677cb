"""A report page as one file or, where that would be too large, with a folder of files beside it.

The page refers to these files by `src` alone, since a browser that opens a page from disk refuses to fetch others.
"""

import base64
import hashlib
import re
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from m2m.io.files import whole, write_text

# What base.html.j2 and viewer.html.j2 contain.
IMAGES, SCRIPTS = "img-src data: blob:;", "script-src 'unsafe-inline'"
ALONE = "This page is one self-contained file"
_DATA = re.compile(r'(<script type="application/json" id="viewer-data">)(.*?)</script>', re.S)
_IMAGE = re.compile(r'src="data:image/(\w+);base64,([^"]+)"')


def save_page(out: Path, page: str, max_mb: float) -> None:
    """Write a page; where it is larger than `max_mb`, its viewer's data and, if need be, its images beside it.

    The folder has the page's name: report_files for report.html. What an earlier page left there is removed.

    Parameters
    ----------
    out : Path
        HTML file.
    page : str
        The page with all data in it.
    max_mb : float
        Largest size of the page.
    """
    folder = out.with_name(f"{out.stem}_files")
    files: dict[str, bytes] = {}

    def beside(name: str, content: bytes) -> str:
        files[name] = content
        return f'src="{urllib.parse.quote(folder.name)}/{name}"'

    def data(found: re.Match[str]) -> str:
        # The data become those of the empty element, where viewer.js looks for them.
        script = f'document.getElementById("viewer-data").textContent = JSON.stringify({found[2]});\n'
        return f"{found[1]}</script><script {beside('viewer.js', script.encode())}></script>"

    def image(found: re.Match[str]) -> str:
        content = base64.b64decode(found[2])
        return beside(f"{hashlib.sha256(content).hexdigest()[:16]}.{found[1]}", content)

    steps: list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]] = [(_DATA, data), (_IMAGE, image)]
    for pattern, place in steps:
        if len(page.encode()) > max_mb * 1e6:
            page = pattern.sub(place, page)
    if files:
        page = page.replace(IMAGES, f"{IMAGES[:-1]} 'self' file:;").replace(SCRIPTS, f"{SCRIPTS} 'self' file:")
        page = page.replace(ALONE, f"This page needs the folder {folder.name} beside it")
    for name, content in files.items():
        with whole(folder / name) as temporary:
            temporary.write_bytes(content)
    write_text(out, page)
    _remove_others(folder, set(files))
    total = (len(page.encode()) + sum(map(len, files.values()))) / 1e6
    print(f"wrote {out} ({len(page.encode()) / 1e6:.1f} MB" + (f"; {total:.1f} MB with {folder})" if files else ")"))


def _remove_others(folder: Path, kept: set[str]) -> None:
    """Remove files of an earlier page, and the folder where nothing is left in it."""
    for path in folder.glob("*"):
        if path.name not in kept:
            path.unlink()
    if folder.is_dir() and not kept:
        folder.rmdir()
