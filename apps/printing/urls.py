"""Addresses of this app: primary keys only, nothing that describes a person."""

from django.urls import URLPattern, path

from apps.printing import views

app_name = "printing"
urlpatterns: list[URLPattern] = [
    path("", views.queue, name="queue"),
    path("studies/<int:study_pk>/film/", views.film, name="film"),
    path("jobs/<int:pk>/", views.job, name="job"),
    path("jobs/<int:pk>/cancel/", views.cancel, name="cancel"),
    path("jobs/<int:pk>/retry/", views.retry, name="retry"),
    path("jobs/<int:pk>/film.pdf", views.download, name="download"),
    path("sheets/<int:pk>/preview.png", views.preview, name="preview"),
]
