"""What the site's builder calls: pages that are printed from the code and from the benchmarks' results."""

from __future__ import annotations

import posixpath
from collections.abc import Callable

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from devtools.site import benchmark_tables, command_pages, configuration_tables, links

PRINTED: dict[str, Callable[[], str]] = {
    "benchmarks.md": benchmark_tables.page,
    "reference/commands.md": command_pages.page,
    "reference/configuration.md": configuration_tables.page,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the printed pages, those that stand elsewhere in the repository, and every file that a page links to."""
    for place, printed in PRINTED.items():
        files.append(File.generated(config, place, content=printed()))
    for place, file in links.PAGES.items():
        files.append(File.generated(config, place, abs_src_path=str(links.ROOT / file)))
    linked = {
        target
        for page in files.documentation_pages()
        for target, _ in links.local_links(page.content_string, links.source_of(page.src_uri))
        if not target.startswith("docs/") and links.place_of(target).startswith("files/")
    }
    for target in sorted(linked):
        files.append(File.generated(config, links.place_of(target), abs_src_path=str(links.ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with links and pictures as the site has them."""
    place = posixpath.normpath(page.file.src_uri)
    return links.with_pictures(links.for_site(markdown, place), place)
