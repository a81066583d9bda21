"""Tells Django of this app."""

from django.apps import AppConfig


class OperationsConfig(AppConfig):
    """The app's name; nothing happens at start."""

    name = "apps.operations"
