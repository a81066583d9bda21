"""Who may connect and how much came from whom, in a real browser: looks, widths, and one click to allow."""

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from apps.nodes import reasons
from apps.nodes.models import RefusalMinute, RejectedCaller, RemoteNode, TrafficMinute
from apps.nodes.snapshot import publish_rules
from tests.browser.conftest import keep_picture
from tests.browser.test_pages import LOOKS, fits, unnamed_controls

pytestmark = pytest.mark.django_db(transaction=True)


def busy_hour() -> None:
    now = timezone.now().replace(second=0, microsecond=0)
    for number, (title, name) in enumerate(
        [("CT_TOWER", "CT, tower"), ("MR_1", "MR one"), ("XR_ER", "X-ray, emergency")]
    ):
        RemoteNode.objects.create(name=name, ae_title=title, host=f"10.0.0.{number + 1}")
        for ago in range(0, 600, 1 + number):
            count = (ago * 7 + number * 5) % (11 + 9 * number)
            if count % 5 == 0:
                continue
            TrafficMinute.objects.create(
                calling_ae_title=title, minute=now - timedelta(minutes=ago), address=f"10.0.0.{number + 1}",
                associations=count // 4, instances=count * 9, size_bytes=count * 9 * 525_312,
                rejections=ago % 17 == 0, refusals=2 * (ago % 29 == 0),
            )  # fmt: skip
    RefusalMinute.objects.create(calling_ae_title="CT_TOWER", minute=now, reason=reasons.WRONG_ADDRESS, count=4)
    RefusalMinute.objects.create(calling_ae_title="CT_TOWER", minute=now, dimse_status=0xA700, count=6)
    TrafficMinute.objects.create(calling_ae_title="", minute=now - timedelta(minutes=3), rejections=27)
    RemoteNode.objects.create(name="Ultrasound, ward 3", ae_title="US_WARD3", host="a..b")
    publish_rules()


def rejected_callers() -> RejectedCaller:
    now = timezone.now()
    rows = [("NEW_CT", "10.0.0.44", reasons.UNKNOWN), ("CT_TOWER", "10.0.0.99", reasons.WRONG_ADDRESS),
            ("\\x00\\x01\\xff<b>", "10.6.6.6", reasons.UNKNOWN)]  # fmt: skip
    made = [
        RejectedCaller.objects.create(
            calling_ae_title=title, called_ae_title="DICOMSYS", address=address, reason=reason,
            first_seen_at=now - timedelta(hours=2), last_seen_at=now, count=12,
        )
        for title, address, reason in rows
    ]  # fmt: skip
    return made[1]


def look_at(page: Page, address: str, name: str) -> None:
    page.goto(address)
    expect(page.locator("#site-name")).to_contain_text("dicomsys administration")
    keep_picture(page, name)
    assert fits(page), name
    assert [control for control in unnamed_controls(page.locator("#content-main").page) if "traffic" in control] == []


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_the_pages_fit_and_are_drawn(signed_in, width, dark):
    busy_hour()
    caller = rejected_callers()
    page = signed_in("administrator", width=width, dark=dark)
    look = f"{'dark' if dark else 'light'}-{width}"
    node = RemoteNode.objects.get(ae_title="CT_TOWER")
    look_at(page, "/admin/nodes/trafficminute/", f"traffic-{look}")
    expect(page.locator("svg path").first).to_be_attached()
    look_at(page, "/admin/nodes/trafficminute/?caller=CT_TOWER&span=day", f"traffic-one-{look}")
    look_at(page, "/admin/nodes/rejectedcaller/", f"rejected-{look}")
    look_at(page, f"/admin/nodes/rejectedcaller/{caller.pk}/change/", f"rejected-one-{look}")
    look_at(page, "/admin/nodes/remotenode/", f"nodes-{look}")
    look_at(page, f"/admin/nodes/remotenode/{node.pk}/change/", f"node-{look}")
    page.set_viewport_size({"width": width, "height": 2800})
    expect(page.locator(".module.traffic svg").first).to_be_visible()
    keep_picture(page, f"node-whole-{look}")


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_yet_is_drawn(signed_in, dark):
    page = signed_in("administrator", dark=dark)
    look_at(page, "/admin/nodes/trafficminute/", f"traffic-empty-{'dark' if dark else 'light'}")
    expect(page.get_by_role("heading", name="Nobody has called")).to_be_visible()


def test_from_the_list_of_rejected_callers_to_an_allowed_one(signed_in):
    rejected_callers()
    page = signed_in("administrator")
    page.goto("/admin/nodes/rejectedcaller/")
    page.get_by_role("link", name="NEW_CT").click()
    expect(page.get_by_text("A new node “NEW_CT” with the AE title NEW_CT at 10.0.0.44")).to_be_visible()
    page.get_by_role("button", name="Allow").click()
    expect(page.get_by_text("may connect from 10.0.0.44 within two seconds")).to_be_visible()
    assert RemoteNode.objects.get().host == "10.0.0.44"


def test_a_plot_leads_to_its_numbers(signed_in):
    busy_hour()
    page = signed_in("administrator")
    page.goto("/admin/nodes/trafficminute/")
    page.get_by_role("link", name="MR_1").click()
    expect(page.get_by_role("img", name="Instances")).to_be_visible()
    expect(page.get_by_text("The same in numbers, by minute")).to_be_visible()
    page.get_by_role("link", name="Last day").click()
    expect(page.get_by_text("The same in numbers, by 15 minutes")).to_be_visible()
