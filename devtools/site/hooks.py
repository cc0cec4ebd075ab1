"""MkDocs hooks: pages generated from the code and the benchmark results, and links between files."""

from __future__ import annotations

import posixpath
from collections.abc import Callable

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from devtools.site import benchmark_page, command_pages, configuration_tables, links

GENERATED: dict[str, Callable[[], str]] = {
    "benchmarks.md": benchmark_page.page,
    "reference/commands.md": command_pages.page,
    "reference/configuration.md": configuration_tables.page,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, the pages outside docs/, and every file that a page links to."""
    for uri, page in GENERATED.items():
        files.append(File.generated(config, uri, content=page()))
    for uri, file in links.PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(links.ROOT / file)))
    linked = {
        target
        for page in files.documentation_pages()
        for target, _ in links.local_links(page.content_string, links.source_of(page.src_uri))
        if not target.startswith("docs/") and links.site_path(target).startswith("files/")
    }
    for target in sorted(linked):
        files.append(File.generated(config, links.site_path(target), abs_src_path=str(links.ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the page's Markdown with the site's links and inline pictures."""
    uri = posixpath.normpath(page.file.src_uri)
    return links.with_pictures(links.for_site(markdown, uri), uri)
