"""Tells Django of this app."""

from django.apps import AppConfig


class StorageConfig(AppConfig):
    """The app's name; nothing happens at start."""

    name = "apps.storage"
