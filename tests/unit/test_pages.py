"""The documentation holds together: links lead somewhere, and every page is in the navigation of the site."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "findings").glob("*.md")],
    key=lambda path: path.as_posix(),
)
_FENCE = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)


def prose(path: Path) -> str:
    """The text of a page without its blocks and pieces of code."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", path.read_text(encoding="utf-8")))


def anchors(path: Path) -> set[str]:
    """The anchors of the headings of a page, as GitHub and the site make them of plain headings."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


def dead_links(page: Path) -> list[str]:
    """The links of a page to files or headings that are not there."""
    dead = []
    for link in _LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    assert dead_links(page) == []


def test_dead_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# A heading: of `two` parts\n")
    page.write_text(
        "# Here\n[a](other.md) [b](other.md#a-heading-of-two-parts) [c](#here) `[code](no.md)` [d](https://example.org)\n"
        "```\n[block](no.md)\n# not-a-heading\n```\n[e](gone.md) [f](other.md#gone) [g](#not-a-heading)\n"
    )
    assert dead_links(page) == ["gone.md", "other.md#gone", "#not-a-heading"]


def starts_inside_a_paragraph(page: Path) -> list[str]:
    """The first lines of lists and tables that follow a line of text: the site makes them a part of its paragraph."""
    found, before = [], ""
    for line in _FENCE.sub("", page.read_text(encoding="utf-8")).splitlines():
        begins = re.match(r"([-*]|\d+\.) |\|", line)
        goes_on = not before.strip() or re.match(r"([-*]|\d+\.) |[|#]|\s", before)
        if begins and not goes_on:
            found.append(line)
        before = line
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_lists_and_tables_begin_after_an_empty_line(page: Path) -> None:
    assert starts_inside_a_paragraph(page) == []


def test_lists_and_tables_inside_a_paragraph_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n- a\n  more\n- b\n\ntext\n- c\n\ntext\n| d | e |\n|---|---|\n\n```\ntext\n- f\n```\n2. g\n"
    )
    assert starts_inside_a_paragraph(page) == ["- c", "| d | e |"]


def test_every_page_is_in_the_navigation() -> None:
    def pages(entry: object) -> list[str]:
        if isinstance(entry, dict):
            return [page for value in entry.values() for page in pages(value)]
        return [page for one in entry for page in pages(one)] if isinstance(entry, list) else [str(entry)]

    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    docs = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    beside = {"index.md", *(path.relative_to(ROOT).as_posix() for path in PAGES if ROOT / "docs" not in path.parents)}
    assert sorted(listed) == sorted(docs | (beside - {"README.md"}))
