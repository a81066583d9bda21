"""Tells Django of this app."""

from django.apps import AppConfig


class FilmsConfig(AppConfig):
    """The app's name; nothing happens at start."""

    name = "apps.films"
