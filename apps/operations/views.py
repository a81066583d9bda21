"""The health probe."""

from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse

from apps.accounts.access import public


@public
def healthz(request: HttpRequest) -> HttpResponse:
    """200 when this process answers and reaches its database, else 503."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return HttpResponse("database away\n", status=503, content_type="text/plain")
    return HttpResponse("ok\n", content_type="text/plain")
