"""Addresses of the conflict pages: primary keys only, nothing that describes a person."""

from django.urls import URLPattern, path

from apps.portal import conflicts

app_name = "conflicts"
urlpatterns: list[URLPattern] = [
    path("", conflicts.waiting, name="waiting"),
    path("decided/", conflicts.decided, name="decided"),
    path("decided/<int:pk>/undo/", conflicts.undoing, name="undo"),
    path("report/<int:study_pk>/", conflicts.report, name="report"),
    path("<int:pk>/", conflicts.conflict, name="conflict"),
    path("<int:pk>/decide/", conflicts.decision, name="decide"),
    path("<int:pk>/patients/", conflicts.patients, name="patients"),
    path("<int:pk>/<str:side>/<int:size_px>.png", conflicts.picture, name="picture"),
]
