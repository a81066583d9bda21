"""A real browser against the pages. What it complains about fails the test: scripts, the content security policy,
lost requests, requests to elsewhere."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import ConsoleMessage, Page, Request

from tests.factories import make_user

SCREENSHOTS = os.environ.get("DICOMSYS_SCREENSHOTS", "")
PASSWORD = "seven-grey-herons"


@pytest.fixture(autouse=True)
def plain_pages(settings):
    """Static files without `collectstatic`, passwords hashed at once."""
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


class Complaints:
    """What the browser says about a page."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.texts: list[str] = []
        self.expected: list[str] = []

    def watch(self, page: Page) -> None:
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.texts.append(f"script: {error}"))
        page.on("request", self._see)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.texts.append(f"{message.type}: {message.text} {message.location.get('url', '')}")

    def _see(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.netloc != self.host:
            self.texts.append(f"request to {request.url}")

    def left(self) -> list[str]:
        return [text for text in self.texts if not any(word in text for word in self.expected)]


@pytest.fixture
def complaints(live_server) -> Iterator[Complaints]:
    """Checked at the end; a test adds words of those that it provokes to `expected`."""
    heard = Complaints(urlsplit(live_server.url).netloc)
    yield heard
    assert heard.left() == []


@pytest.fixture
def open_page(browser, live_server, complaints) -> Iterator[Callable[..., Page]]:
    """A fresh browser profile; `open_page(width=390, dark=True)`."""
    contexts = []

    def open_page(width: int = 1440, dark: bool = False) -> Page:
        context = browser.new_context(
            base_url=live_server.url,
            viewport={"width": width, "height": 900 if width > 600 else 844},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        complaints.watch(page)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def signed_in(open_page) -> Callable[..., Page]:
    """The worklist of a radiologist, after signing in through the form."""

    def sign_in(*roles: str, **look) -> Page:
        user = make_user(*(roles or ("radiologist",)), password=PASSWORD)
        page = open_page(**look)
        page.goto("/accounts/login/")
        page.get_by_label("User name").fill(user.username)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/")
        return page

    return sign_in


def keep_picture(page: Page, name: str, whole: bool = False) -> None:
    """A screenshot for people, in the folder that DICOMSYS_SCREENSHOTS names; of the window, or of the whole page."""
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=whole)
