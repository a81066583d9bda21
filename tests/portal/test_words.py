"""Ages, times and icons as templates show them."""

from datetime import date, timedelta
from pathlib import Path

import pytest
from django.template import Context, Template
from django.utils import timezone

from apps.portal.templatetags import portal
from apps.portal.templatetags.portal import age_on, ago_words

TEMPLATES = Path(__file__).parents[2] / "templates"


@pytest.mark.parametrize(
    ("birth", "day", "words"),
    [
        (date(1950, 3, 10), date(2026, 3, 9), "75 y"),
        (date(1950, 3, 10), date(2026, 3, 10), "76 y"),
        (date(2024, 3, 10), date(2026, 3, 9), "23 mo"),
        (date(2026, 3, 1), date(2026, 3, 10), "9 d"),
        (date(2026, 3, 1), date(2026, 2, 1), ""),
        (None, date(2026, 2, 1), ""),
    ],
)
def test_ages_are_told_in_the_unit_that_fits(birth, day, words):
    assert age_on(birth, day) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "now"), (59, "now"), (60, "1 min ago"), (3600, "1 h ago"), (47 * 3600, "47 h ago"), (48 * 3600, "2 d ago")],
)
def test_how_long_ago(seconds, words):
    assert ago_words(seconds) == words


def test_the_exact_time_stands_in_the_title(settings):
    settings.TIME_ZONE = "UTC"
    moment = timezone.now() - timedelta(minutes=5)
    text = Template("{% load portal %}{% ago moment %}").render(Context({"moment": moment}))
    assert "5 min ago" in text
    assert f'title="{moment:%Y-%m-%d %H:%M:%S} UTC"' in text


@pytest.mark.parametrize("name", sorted(portal._ICONS))
def test_every_icon_is_well_formed(name):
    from xml.etree import ElementTree

    assert ElementTree.fromstring(portal.icon(name)).get("aria-hidden") == "true"


@pytest.mark.parametrize("path", sorted(TEMPLATES.rglob("*.html")), ids=lambda path: str(path.relative_to(TEMPLATES)))
def test_no_template_holds_what_the_content_security_policy_forbids(path):
    import re

    text = path.read_text()
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:|\shx-on|<script(?![^>]*\ssrc=)", text)
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", text)
