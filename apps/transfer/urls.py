"""Addresses of this app."""

from django.urls import URLPattern

app_name = "transfer"
urlpatterns: list[URLPattern] = []
