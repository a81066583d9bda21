"""Tells Django of this app."""

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_delete, post_save


class NodesConfig(AppConfig):
    """A changed rule reaches the receiver: a cascade and the admin's deletion have no call of ours to make."""

    name = "apps.nodes"

    def ready(self) -> None:
        """Watch the two tables that hold rules."""
        for model in (self.get_model("RemoteNode"), self.get_model("CalledTitle")):
            for signal in (post_save, post_delete):
                signal.connect(_rule_changed, sender=model, dispatch_uid=f"rule_changed {model.__name__}")


def _rule_changed(sender: Any, update_fields: frozenset[str] | None = None, **kwargs: Any) -> None:
    from apps.nodes.snapshot import publish_on_commit

    if update_fields is None or sender.RULE_FIELDS & update_fields:
        publish_on_commit()
