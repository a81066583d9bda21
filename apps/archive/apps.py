"""Tells Django of this app."""

from django.apps import AppConfig


class ArchiveConfig(AppConfig):
    """The app's name; nothing happens at start."""

    name = "apps.archive"
