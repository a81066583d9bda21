"""Addresses of this app."""

from django.urls import URLPattern

app_name = "films"
urlpatterns: list[URLPattern] = []
