"""What pages of other apps show of printing."""

from django import template
from django.db.models import QuerySet

from apps.printing.models import Printer
from apps.printing.queries import active_printers

register = template.Library()


@register.simple_tag
def printers() -> QuerySet[Printer]:
    """Printers to choose from."""
    return active_printers()
