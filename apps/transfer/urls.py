"""Addresses of this app. UIDs and keys may stand in them, what describes a person may not: searches are posted."""

from django.urls import URLPattern, path

from apps.transfer import views

app_name = "transfer"
urlpatterns: list[URLPattern] = [
    path("", views.query, name="query"),
    path("retrieve/", views.retrieve, name="retrieve"),
    path("jobs/", views.jobs, name="jobs"),
    path("jobs/<int:job_id>/line/", views.line, name="line"),
    path("jobs/<int:job_id>/cancel/", views.cancel, name="cancel"),
    path("jobs/<int:job_id>/retry/", views.retry, name="retry"),
]
