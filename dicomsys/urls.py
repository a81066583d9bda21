"""Every address: staff pages at the root, Django admin below /admin/."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("accounts/", include("apps.accounts.urls")),
    path("films/", include("apps.films.urls")),
    path("print/", include("apps.printing.urls")),
    path("pacs/", include("apps.transfer.urls")),
    path("conflicts/", include("apps.portal.conflict_urls")),
    path("texts/", include("apps.archive.text_urls")),
    path("", include("apps.operations.urls")),
    path("", include("apps.portal.urls")),
]
