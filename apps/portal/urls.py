"""Addresses of this app. UIDs may stand in them, names and birth dates may not."""

from django.urls import URLPattern, path, register_converter
from django.views.generic import RedirectView

from apps.accounts.access import signed_in
from apps.portal import views
from apps.portal.converters import UidConverter

register_converter(UidConverter, "uid")

app_name = "portal"
urlpatterns: list[URLPattern] = [
    path("", views.worklist, name="worklist"),
    path("worklist/", signed_in(RedirectView.as_view(pattern_name="portal:worklist"))),
    path("worklist/search/", views.search, name="search"),
    path("worklist/more/", views.more, name="more"),
    path("worklist/poll/", views.poll, name="poll"),
    path("studies/<uid:study_uid>/", views.study, name="study"),
    path("studies/<uid:study_uid>/arrival/", views.arrival, name="arrival"),
    path("series/<uid:series_uid>/", views.series, name="series"),
    path("instances/<uid:sop_uid>/", views.details, name="details"),
    path("instances/<uid:sop_uid>/thumbnail/<int:size_px>/", views.thumbnail, name="thumbnail"),
    path("help/", views.help_page, name="help"),
]
