"""Traffic by AE title: the numbers, the small plots, the pages."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from apps.accounts.models import User
from apps.nodes.models import RefusalMinute, RemoteNode, TrafficMinute
from apps.nodes.queries import DAY, HOUR, traffic_of, traffic_of_all
from apps.nodes.templatetags.traffic import bars_path

pytestmark = pytest.mark.django_db
HOSTILE = "<b>&'\"\\x3c"


@pytest.fixture
def admin_client(client):
    client.force_login(User.objects.create_superuser("admin"))
    return client


def minute(ae_title="CT1", ago_min=0, **counts) -> TrafficMinute:
    when = timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=ago_min)
    return TrafficMinute.objects.create(calling_ae_title=ae_title, minute=when, **counts)


def refusal(ae_title="CT1", **changes) -> None:
    when = timezone.now().replace(second=0, microsecond=0)
    RefusalMinute.objects.create(**{"calling_ae_title": ae_title, "minute": when, "count": 1, **changes})


def page(client, **query) -> str:
    answer = client.get(reverse("admin:nodes_trafficminute_changelist"), query)
    assert answer.status_code == 200
    return answer.content.decode()


def test_an_hour_and_a_day_are_added_up_by_bar():
    minute(associations=1, instances=10, size_bytes=1000, address="10.0.0.7")
    minute(ago_min=30, associations=2, instances=20, size_bytes=2000, rejections=3, refusals=4)
    minute(ago_min=300, instances=500)
    minute(ago_min=2000, instances=7000)
    minute("MR1", instances=1)
    hour, day = traffic_of("CT1", HOUR), traffic_of("CT1", DAY)
    assert len(hour.bars) == 60
    assert (hour.bars[-1].instances, hour.bars[-31].instances) in [(10, 20), (0, 0)]  # the minute may just have ended
    total = hour.total
    assert (total.associations, total.instances, total.size_bytes) == (3, 30, 3000)
    assert (total.rejections, total.refusals) == (3, 4)
    assert len(day.bars) == 96
    assert day.total.instances == 530
    assert (hour.last_address, hour.last_seen_at) == ("10.0.0.7", day.last_seen_at)


def test_last_seen_reaches_back_beyond_the_span():
    old = minute(ago_min=5000, associations=1, address="10.0.0.7")
    minute(ago_min=1, rejections=1)
    assert traffic_of(" CT1 ", HOUR).last_seen_at == old.minute


def test_every_active_node_is_listed_and_who_else_was_there():
    RemoteNode.objects.create(name="CT one", ae_title="CT1", host="10.0.0.7")
    RemoteNode.objects.create(name="CT two", ae_title="CT1", host="10.0.0.8")
    RemoteNode.objects.create(name="Quiet", ae_title="QUIET", host="10.0.0.9")
    RemoteNode.objects.create(name="Off", ae_title="OFF", host="10.0.0.9", is_active=False)
    minute("LOCAL", size_bytes=5)
    minute("", rejections=9)
    minute("GONE", ago_min=100, size_bytes=5)
    listed = {caller.ae_title: caller for caller in traffic_of_all(HOUR)}
    assert set(listed) == {"CT1", "QUIET", "LOCAL", ""}
    assert listed["CT1"].node_names == ["CT one", "CT two"]
    assert listed[""].total.rejections == 9
    assert listed["QUIET"].last_seen_at is None
    assert next(iter(listed)) == "LOCAL"  # the busiest


def test_reasons_are_in_words_and_the_most_frequent_first():
    minute(rejections=3, refusals=5)
    refusal(reason="no active node has its AE title", count=3)
    refusal(dimse_status=0xA700, count=4)
    refusal(dimse_status=0x0122, count=1)
    refusal("MR1", dimse_status=0xC000, count=8)
    assert traffic_of("CT1", HOUR).reasons == [
        ("C-STORE refused with 0xA700: out of resources, the disk is nearly full or too much waits", 4),
        ("Association rejected: no active node has its AE title", 3),
        ("C-STORE refused with 0x0122: this kind of object is not taken", 1),
    ]


def test_the_questions_are_few_however_many_callers_there_are(django_assert_num_queries):
    for number in range(30):
        minute(f"CT{number}", instances=1)
        RemoteNode.objects.create(name=f"N{number}", ae_title=f"N{number}", host="10.0.0.7")
    with django_assert_num_queries(3):
        assert len(traffic_of_all(DAY)) == 60


def test_bars_are_as_high_as_their_share_and_never_lost():
    assert bars_path([0, 0]) == ""
    assert bars_path([]) == ""
    assert bars_path([100, 0, 50, 1]) == "M0 40v-40h3v40zM8 40v-20h3v20zM12 40v-1h3v1z"


def test_the_page_shows_plot_and_numbers(admin_client):
    minute(associations=1, instances=1234, size_bytes=5_000_000, rejections=1)
    refusal(reason="its node must use TLS")
    overview = page(admin_client)
    assert "1,234" in overview
    assert "<path d=" in overview
    assert "?caller=CT1&amp;span=hour" in overview
    one = page(admin_client, caller="CT1", span="day")
    assert "its node must use TLS" in one
    assert "4.8\xa0MB" in one
    assert "at most 1,234 per 15 minutes" in one
    assert 'style="' not in one.replace('style="display', "")


def test_nothing_yet_says_what_to_do(admin_client):
    assert "Nobody has called" in page(admin_client)
    assert "Nothing came within the last hour" in page(admin_client, caller="CT1")


@pytest.mark.parametrize("query", [{"span": "x"}, {"caller": "\0"}, {"caller": "é" * 500}, {"caller": ""}])
def test_any_question_has_an_answer(admin_client, query):
    page(admin_client, **query)


def test_hostile_titles_are_shown_as_text(admin_client):
    minute(HOSTILE, instances=1)
    for content in (page(admin_client), page(admin_client, caller=HOSTILE)):
        assert "<b>" not in content
        assert "&lt;b&gt;&amp;&#x27;&quot;\\x3c" in content


def test_the_node_s_page_shows_its_last_hour(admin_client):
    node = RemoteNode.objects.create(name="CT", ae_title="CT1", host="10.0.0.7")
    minute(instances=4321)
    content = admin_client.get(reverse("admin:nodes_remotenode_change", args=[node.pk])).content.decode()
    assert "What came from CT1 within the last hour" in content
    assert "4,321" in content


def test_minutes_have_no_pages_of_their_own(admin_client):
    row = minute(instances=1)
    assert admin_client.get(f"/admin/nodes/trafficminute/{row.pk}/change/").status_code in (301, 302, 404)
    assert admin_client.get("/admin/nodes/trafficminute/add/").status_code == 404
