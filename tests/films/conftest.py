"""A study in the archive, and what a film needs."""

import pytest

from apps.archive.models import Study
from apps.films.models import FilmTemplate
from apps.films.services import Layout
from tests.factories import make_user, store
from tests.films.phantom import phantom


@pytest.fixture
def radiologist(db):
    return make_user("radiologist")


@pytest.fixture
def template(db) -> FilmTemplate:
    return FilmTemplate.objects.create(name="test", film_size="8INX10IN", columns=2, rows=2)


@pytest.fixture
def layout(template) -> Layout:
    return Layout(template, 2, 2)


@pytest.fixture
def make_ct_study(volume):
    """`make_ct_study(7, 3)`: a study with two series of 7 and 3 images."""

    def make(*counts: int, **changes: object) -> Study:
        first = phantom(32, **changes)
        for number, count in enumerate(counts, start=1):
            series = {"SeriesInstanceUID": f"{first.SeriesInstanceUID[:60]}.{number}", "SeriesNumber": number}
            common = {**changes, "StudyInstanceUID": first.StudyInstanceUID, **series}
            store(*(phantom(32, InstanceNumber=at + 1, **common) for at in range(count)))
        return Study.objects.get(study_instance_uid=first.StudyInstanceUID)

    return make
