"""Hooks of mkdocs: files beside docs/ become pages of the site, and links to them lead there.

In the repository README.md links to `docs/data.md` and docs/data.md to `../CONTRIBUTING.md`. On the site all of them
are in one folder, and README.md is its first page.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
BESIDE = {"README.md": "index.md"} | {name: name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")}
"""Files beside docs/ and their places on the site."""
_LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)\s]+)(\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the files of the repository that pages link to."""
    found = dict(BESIDE)
    for path in sorted((ROOT / "findings").iterdir()):
        if path.is_file():
            found[f"findings/{path.name}"] = f"findings/{path.name}"
    for source, place in found.items():
        if source.endswith(".md"):
            text = (ROOT / source).read_text(encoding="utf-8")
            files.append(File.generated(config, place, content=_led_to_the_site(text, source)))
        else:
            files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead the links of a page of docs/ to files beside docs/ to their pages."""
    if page.file.generated_by is not None:
        return markdown
    return _led_to_the_site(markdown, f"docs/{page.file.src_uri}")


def _led_to_the_site(text: str, source: str) -> str:
    folder = (ROOT / source).parent

    def led(match: re.Match[str]) -> str:
        target, mark, anchor = match[2].partition("#")
        path = (folder / target).resolve()
        if not path.is_relative_to(ROOT):
            return match[0]
        relative = path.relative_to(ROOT).as_posix()
        if relative == "docs/decisions":
            relative = "decisions/0001-views-and-plan-are-functions.md"
        elif relative == "findings":
            relative = "findings/README.md"
        place = BESIDE.get(relative, relative.removeprefix("docs/"))
        here = Path(BESIDE.get(source, source.removeprefix("docs/"))).parent
        return f"{match[1]}{'../' * len(here.parts)}{place}{mark}{anchor}{match[3]}"

    return _LINK.sub(led, text)
