"""A headless Chromium that records requests, dialogs, errors and policy violations of a page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["Watched", "open_browser", "watched_page"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@dataclass(slots=True)
class Watched:
    """A page and the record of what it did.

    Attributes:
        requests: requested URLs, including the URL of the page.
        complaints: dialogs, errors and error messages on the console.
    """

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def violations(self) -> list[str]:
        """Return the complaints and the violations of the page's content security policy."""
        return [*self.complaints, *self.page.evaluate("window.violations ?? []")]


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start a browser, or skip the test if the machine has none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def watched_page(browser: Browser, **options: object) -> Iterator[Watched]:
    """Open a page in its own profile."""
    context = browser.new_context(**options)  # type: ignore[arg-type] # passed on unchanged
    page = context.new_page()
    watched = Watched(page)
    page.add_init_script(
        "addEventListener('securitypolicyviolation', (event) => { (window.violations ??= []).push("
        "`${event.violatedDirective} ${event.blockedURI}`); });"
    )

    def dialog(found: object) -> None:
        watched.complaints.append("dialog")
        found.dismiss()  # type: ignore[attr-defined] # playwright's Dialog

    page.on("dialog", dialog)
    page.on("pageerror", lambda error: watched.complaints.append(f"error: {error}"))
    page.on(
        "console", lambda said: watched.complaints.append(f"console: {said.text}") if said.type == "error" else None
    )
    page.on("request", lambda request: watched.requests.append(request.url))
    try:
        yield watched
    finally:
        context.close()
