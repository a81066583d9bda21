"""The study page, its images and what is told of each."""

from unittest.mock import Mock, patch

import pytest
from django.urls import Resolver404, resolve, reverse
from pydicom.uid import ComprehensiveSRStorage, generate_uid

from apps.archive.models import Instance, Study
from apps.portal import thumbnails, views
from apps.portal.converters import UidConverter
from apps.portal.thumbnails import LARGE_PX, THUMBNAIL_PX, ByteCache
from tests.dicom import ct_dataset, series_of
from tests.factories import make_study, make_user, store

pytestmark = pytest.mark.django_db

NO_PIXELS = {"Rows": None, "Columns": None, "PixelData": None}


@pytest.fixture
def reader(client, volume):
    client.force_login(make_user("radiologist"))
    return client


def study_page(client, uid: str) -> str:
    response = client.get(reverse("portal:study", args=[uid]))
    assert response.status_code == 200
    return response.content.decode()


def picture(client, uid: str, size_px: int = THUMBNAIL_PX, **more):
    return client.get(reverse("portal:thumbnail", args=[uid, size_px]), more.pop("query", {}), **more)


def test_the_page_shows_patient_study_and_series(reader):
    store(dataset := ct_dataset(PatientName="Müller^Anna", InstitutionName="Clinic", BodyPartExamined="CHEST"))
    page = study_page(reader, dataset.StudyInstanceUID)
    for text in (
        "Müller, Anna",
        "P1",
        "1970-01-01",
        "56 y",
        "A1",
        "Synthetic study",
        "Demo, Referrer",
        "Synthetic series",
    ):
        assert text in page
    assert "from SENDER" in page
    assert "Müller" not in page.split("</title>")[0]


def test_a_patient_id_that_somebody_else_has_is_said(reader):
    store(first := ct_dataset(PatientName="First^Person", PatientBirthDate="19500101"))
    store(second := ct_dataset(PatientName="Second^Somebody", PatientBirthDate="19990202"))
    assert "Somebody else is known" not in study_page(reader, first.StudyInstanceUID)
    page = study_page(reader, second.StudyInstanceUID)
    assert "Somebody else is known under this patient ID" in page
    assert "Second, Somebody" in page


def test_the_series_shows_its_images_in_order_and_the_rest_on_demand(reader, monkeypatch):
    monkeypatch.setattr(views, "GRID_SIZE", 3)
    images = series_of(5)
    store(*reversed(images))
    address = reverse("portal:series", args=[images[0].SeriesInstanceUID])
    first = reader.get(address).content.decode()
    shown = [first.find(f"/{image.SOPInstanceUID}/thumbnail/") for image in images]
    assert shown[:3] == sorted(shown[:3])
    assert shown[3:] == [-1, -1]
    assert "start=3" in first
    rest = reader.get(address, {"start": 3}).content.decode()
    assert rest.count("data-image") == 2
    assert "Show more" not in rest


def test_the_page_needs_few_statements_whatever_the_number_of_series(reader, django_assert_max_num_queries):
    study = generate_uid()
    store(*[ct_dataset(StudyInstanceUID=study, SeriesNumber=number) for number in range(12)])
    with django_assert_max_num_queries(9):
        study_page(reader, study)


def test_the_images_of_a_series_need_few_statements(reader, django_assert_max_num_queries):
    store(*(images := series_of(30)))
    with django_assert_max_num_queries(7):
        reader.get(reverse("portal:series", args=[images[0].SeriesInstanceUID]))


def test_an_object_without_pixels_is_shown_by_what_it_is(reader):
    store(dataset := ct_dataset(SOPClassUID=ComprehensiveSRStorage, Modality="SR", **NO_PIXELS))
    assert "1 object" in study_page(reader, dataset.StudyInstanceUID)
    grid = reader.get(reverse("portal:series", args=[dataset.SeriesInstanceUID])).content.decode()
    assert "Comprehensive SR" in grid
    assert "thumbnail" not in grid
    assert picture(reader, dataset.SOPInstanceUID).status_code == 404


def test_prior_studies_of_the_patient_are_linked(reader):
    store(old := ct_dataset(StudyDate="20200101", StudyDescription="Old scan"), new := ct_dataset())
    page = study_page(reader, new.StudyInstanceUID)
    assert "Old scan" in page
    assert reverse("portal:study", args=[old.StudyInstanceUID]) in page


def test_details_tell_the_object_and_its_transfer_syntax(reader):
    store(dataset := ct_dataset())
    page = reader.get(reverse("portal:details", args=[dataset.SOPInstanceUID])).content.decode()
    for text in ("CT Image Storage", "Explicit VR Little Endian", "8 × 8", dataset.SOPInstanceUID, "SENDER"):
        assert text in page


# --- Pictures


@pytest.mark.parametrize("size_px", [THUMBNAIL_PX, LARGE_PX])
def test_a_thumbnail_is_a_png_that_the_browser_may_keep_for_this_user(reader, size_px):
    store(dataset := ct_dataset())
    response = picture(reader, dataset.SOPInstanceUID, size_px)
    assert response.content.startswith(b"\x89PNG")
    assert response["Content-Type"] == "image/png"
    assert response["Cache-Control"].startswith("private, max-age=")
    again = picture(reader, dataset.SOPInstanceUID, size_px, headers={"If-None-Match": response["ETag"]})
    assert again.status_code == 304
    assert not again.content


@pytest.mark.parametrize("query", [{"frame": 2}, {"frame": 0}, {"frame": 10**30}])
def test_a_frame_that_is_not_there_is_not_found(reader, query):
    store(dataset := ct_dataset())
    assert picture(reader, dataset.SOPInstanceUID, query=query).status_code == 404


def test_sizes_are_only_those_that_pages_use(reader):
    store(dataset := ct_dataset())
    assert picture(reader, dataset.SOPInstanceUID, 5000).status_code == 404


def test_each_frame_of_a_multi_frame_image_is_a_picture_of_its_own(reader):
    store(dataset := ct_dataset(NumberOfFrames=2, PixelData=bytes(128) + b"\xff\x0f" * 32 + bytes(64)))
    tags = {picture(reader, dataset.SOPInstanceUID, query={"frame": frame})["ETag"] for frame in (1, 2)}
    assert len(tags) == 2


def test_what_cannot_be_decoded_gets_a_placeholder_and_is_tried_once(reader):
    store(dataset := ct_dataset(PixelData=b"12"))
    with patch.object(thumbnails, "render_thumbnail", wraps=thumbnails.render_thumbnail) as render:
        for _ in range(2):
            assert picture(reader, dataset.SOPInstanceUID).url.endswith("undecodable.svg")
    assert render.call_count == 1


def test_a_lost_file_gets_a_placeholder_until_it_is_back(reader):
    store(dataset := ct_dataset(PatientComments="lost and found"))
    path = Instance.objects.get().path
    content = path.read_bytes()
    path.unlink()
    assert picture(reader, dataset.SOPInstanceUID).url.endswith("undecodable.svg")
    path.write_bytes(content)
    assert picture(reader, dataset.SOPInstanceUID).status_code == 200


@pytest.mark.parametrize("role", ["referring physician", "administrator"])
def test_without_a_scope_nothing_of_a_study_is_found(client, volume, role):
    store(dataset := ct_dataset())
    client.force_login(make_user(role))
    expected = 404 if role == "referring physician" else 403
    for name, args in (
        ("study", [dataset.StudyInstanceUID]),
        ("series", [dataset.SeriesInstanceUID]),
        ("details", [dataset.SOPInstanceUID]),
        ("thumbnail", [dataset.SOPInstanceUID, THUMBNAIL_PX]),
    ):
        assert client.get(reverse(f"portal:{name}", args=args)).status_code == expected


def test_kept_pictures_stay_below_their_limit_the_oldest_go_first():
    cache = ByteCache(10)
    for key in "abc":
        cache.get_or_make(key, lambda: b"1234")
    assert cache.used_bytes == 8
    make = Mock(return_value=b"1234")
    cache.get_or_make("c", make)
    assert make.call_count == 0
    cache.get_or_make("a", make)
    assert make.call_count == 1
    cache.get_or_make("huge", lambda: b"x" * 11)
    assert cache.used_bytes == 8


# --- UIDs that are none


@pytest.mark.parametrize(
    "uid", ["../../etc/passwd", "a/b?c#d", "1.2.3 ", "<b>'\"", "..", "Ünï%2F", "x" * 64, "~1", "-1"]
)
def test_an_odd_uid_travels_in_an_address_and_comes_back(reader, uid):
    study = make_study("Odd^One", study_instance_uid=uid)
    address = reverse("portal:study", args=[uid])
    assert resolve(address).kwargs == {"study_uid": uid}
    assert "Odd, One" in study_page(reader, uid)
    assert address in reader.get("/").content.decode()
    assert Study.objects.get(pk=study.pk).study_instance_uid == uid


def test_a_uid_of_digits_stands_in_the_address_as_it_is():
    assert UidConverter().to_url("1.2.840.1") == "1.2.840.1"


@pytest.mark.parametrize("piece", ["~!", "~A", "~_w", "abc", "1.2~"])
def test_an_address_that_no_uid_has_is_not_found(reader, piece):
    with pytest.raises(Resolver404):
        resolve(f"/studies/{piece}/")
    assert reader.get(f"/studies/{piece}/").status_code == 404


def test_an_unknown_study_gets_a_page_that_says_what_to_do(reader):
    response = reader.get("/studies/1.2.3.4/")
    assert response.status_code == 404
    assert b"Search for it in the worklist" in response.content


# --- While it is arriving


def arrival(client, uid: str, **query) -> str:
    response = client.get(reverse("portal:arrival", args=[uid]), query)
    assert response.status_code == 200
    return response.content.decode()


def test_the_page_of_a_study_that_is_arriving_asks_for_news_until_it_is_complete(reader):
    store(*(images := series_of(3))[:1])
    uid = images[0].StudyInstanceUID
    page = study_page(reader, uid)
    address = reverse("portal:arrival", args=[uid])
    assert f'hx-get="{address}?shown=1"' in page
    assert "Show" not in page.partition('id="news"')[0][-200:]

    store(*images[1:])
    piece = arrival(reader, uid, shown=1)
    assert "hx-get" in piece
    assert "3 objects" in piece
    assert "Show 2 more" in piece
    Study.objects.update(status="complete")
    piece = arrival(reader, uid, shown=3)
    assert "hx-get" not in piece
    assert "badge receiving" not in piece
    assert "Show" not in piece


def test_late_and_missing_images_are_said(reader):
    store(first := ct_dataset())
    Study.objects.update(status="complete")
    uid = first.StudyInstanceUID
    store(ct_dataset(StudyInstanceUID=uid, SeriesInstanceUID=first.SeriesInstanceUID))
    assert "Images came after it seemed complete" in arrival(reader, uid)
    Study.objects.update(expected_instance_count=5)
    assert "2 of 5 objects" in arrival(reader, uid)
    Study.objects.update(status="complete")
    piece = arrival(reader, uid)
    assert "late images" in piece
    assert "2 objects" in piece
    assert "3 of 5 missing" in piece


def test_news_of_a_study_that_is_not_there_are_not_found(reader):
    assert reader.get(reverse("portal:arrival", args=["1.2.3.4"])).status_code == 404
