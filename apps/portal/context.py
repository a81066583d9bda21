"""What every page's frame needs."""

from django.conf import settings
from django.http import HttpRequest


def site(request: HttpRequest) -> dict[str, object]:
    """AE title and profile, for the page frame."""
    return {"site_ae_title": settings.AE_TITLE, "is_evaluation": not settings.IS_PRODUCTION}
