"""Remote nodes, and C-ECHO from where they are kept."""

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime

from apps.nodes.echo import verify_node
from apps.nodes.models import RemoteNode

_ADDRESS = frozenset({"ae_title", "host", "port"})


@admin.register(RemoteNode)
class RemoteNodeAdmin(admin.ModelAdmin):
    """Where other systems are and what they may; "Verify" asks them with C-ECHO and says what to check."""

    change_form_template = "nodes/admin/change_form.html"
    list_display = (
        "name",
        "ae_title",
        "host",
        "port",
        "may_send",
        "may_be_queried",
        "may_be_retrieved_from",
        "is_active",
        "last_echo",
    )
    list_filter = ("is_active", "may_be_queried", "may_be_retrieved_from", "last_echo_ok")
    search_fields = ("name", "ae_title", "host")
    readonly_fields = ("last_echo_at", "last_echo_result")
    actions = ("verify",)
    fieldsets = (
        (None, {"fields": ("name", "ae_title", "host", "port", "is_active")}),
        ("What it may", {"fields": ("may_send", "may_be_queried", "may_be_retrieved_from", "query_character_set")}),
        ("What it sends", {"fields": ("study_quiet_s",)}),
        ("Last C-ECHO", {"fields": ("last_echo_at", "last_echo_result")}),
    )

    @admin.display(description="last C-ECHO", ordering="last_echo_at")
    def last_echo(self, node: RemoteNode) -> SafeString | str:
        """Whether it answered, and when."""
        if node.last_echo_at is None:
            return "never asked"
        outcome = "answered" if node.last_echo_ok else "failed"
        when = date_format(localtime(node.last_echo_at), "SHORT_DATETIME_FORMAT")
        return format_html('<span title="{}">{}, {}</span>', node.last_echo_result, outcome, when)

    @admin.action(description="Verify with C-ECHO", permissions=["change"])
    def verify(self, request: HttpRequest, nodes: QuerySet[RemoteNode]) -> None:
        """Ask each selected node and say what came of it."""
        for node in nodes:
            _verify_and_tell(request, node)

    def verify_one(self, request: HttpRequest, node_id: int) -> HttpResponse:
        """The button of the change page."""
        node = get_object_or_404(RemoteNode, pk=node_id)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_change_permission(request, node):
            raise PermissionDenied
        _verify_and_tell(request, node)
        return redirect("admin:nodes_remotenode_change", node_id)

    def get_urls(self) -> list[URLPattern]:
        """The admin's own addresses and the button's."""
        verify = path(
            "<int:node_id>/verify/", self.admin_site.admin_view(self.verify_one), name="nodes_remotenode_verify"
        )
        return [verify, *super().get_urls()]

    def save_model(self, request: HttpRequest, obj: RemoteNode, form: ModelForm, change: bool) -> None:
        """A result for another address says nothing about this one."""
        if _ADDRESS & set(form.changed_data):
            obj.last_echo_at, obj.last_echo_ok, obj.last_echo_result = None, None, ""
        super().save_model(request, obj, form, change)


def _verify_and_tell(request: HttpRequest, node: RemoteNode) -> None:
    result = verify_node(node)
    messages.add_message(request, messages.SUCCESS if result.ok else messages.ERROR, f"{node.name}: {result.text}")
