"""What every page's frame needs."""

from django.conf import settings
from django.http import HttpRequest


def site(request: HttpRequest) -> dict[str, object]:
    """AE title, DICOM address and profile, for the page frame and for advice on sending."""
    return {
        "site_ae_title": settings.AE_TITLE,
        "site_dicom_address": settings.DICOM_ADDRESS,
        "site_dicom_port": settings.DICOM_PORT,
        "is_evaluation": not settings.IS_PRODUCTION,
    }
