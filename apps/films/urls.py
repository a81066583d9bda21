"""Addresses of this app: primary keys only, nothing that describes a person."""

from django.urls import URLPattern, path

from apps.films import views

app_name = "films"
urlpatterns: list[URLPattern] = [
    path("new/<int:study_pk>/", views.new, name="new"),
    path("new/<int:study_pk>/plan/", views.plan, name="plan"),
]
