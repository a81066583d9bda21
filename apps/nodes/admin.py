"""Remote nodes, C-ECHO from where they are kept, who was rejected, and how much came from whom."""

from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import URLPattern, path
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime

from apps.nodes.allowing import CannotAllowError, allow, hindrance, ways_to_allow
from apps.nodes.echo import verify_node
from apps.nodes.forms import RemoteNodeForm
from apps.nodes.models import CalledTitle, RejectedCaller, RemoteNode, TrafficMinute
from apps.nodes.queries import HOUR, SPANS, traffic_of, traffic_of_all

_ADDRESS = frozenset({"ae_title", "host", "port"})
_TO_ALLOW = ("nodes.add_remotenode", "nodes.change_remotenode")


@admin.register(RemoteNode)
class RemoteNodeAdmin(admin.ModelAdmin):
    """Where other systems are and what they may; "Verify" asks them with C-ECHO and says what to check."""

    form = RemoteNodeForm
    change_form_template = "nodes/admin/change_form.html"
    list_display = (
        "name",
        "ae_title",
        "host_and_error",
        "port",
        "may_send",
        "may_query",
        "may_be_queried",
        "may_be_retrieved_from",
        "is_active",
        "last_echo",
    )
    list_filter = ("is_active", "may_query", "may_be_queried", "may_be_retrieved_from", "last_echo_ok")
    search_fields = ("name", "ae_title", "host")
    readonly_fields = ("connects_from", "last_echo_at", "last_echo_result")
    actions = ("verify",)
    fieldsets = (
        (None, {"fields": ("name", "ae_title", "host", "port", "is_active")}),
        ("What it may", {"fields": ("may_send", "may_query")}),
        ("What we may", {"fields": ("may_be_queried", "may_be_retrieved_from", "query_character_set")}),
        (
            "How it may connect to us",
            {"fields": ("check_address", "sender_addresses", "connects_from", "max_associations", "requires_tls")},
        ),
        ("User identity", {"fields": ("identity_username", "identity_password")}),
        ("What it sends", {"fields": ("study_quiet_s",)}),
        ("Last C-ECHO", {"fields": ("last_echo_at", "last_echo_result")}),
    )

    @admin.display(description="host", ordering="host")
    def host_and_error(self, node: RemoteNode) -> SafeString | str:
        """With what is wrong when its addresses are needed and not found."""
        if not node.resolution_error or not node.check_address or node.sender_addresses:
            return node.host
        state = "last known" if node.host_addresses else "not found"
        return format_html('{}<br><strong title="{}">{}</strong>', node.host, node.resolution_error, state)

    @admin.display(description="connects from")
    def connects_from(self, node: RemoteNode) -> SafeString | str:
        """The addresses that the receiver takes it from, or what is wrong with them."""
        if node.pk is None or not node.check_address:
            return "-" if node.pk is None else "any address"
        if not node.sender_addresses and node.resolution_error:
            known = f"; last known: {', '.join(node.host_addresses)}" if node.host_addresses else ""
            return format_html('<strong class="unresolved">{}: {}{}</strong>', node.host, node.resolution_error, known)
        return ", ".join(node.allowed_addresses) or "not looked up yet"

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

    def get_fieldsets(self, request: HttpRequest, obj: RemoteNode | None = None) -> Any:
        """With a word on whether user identities are checked at all."""
        checks = settings.DICOM_USER_IDENTITY == "check"
        words = "This system checks them." if checks else "Not checked now: DICOMSYS_DICOM_USER_IDENTITY is “ignore”."
        return [
            (title, {**options, "description": words} if title == "User identity" else options)
            for title, options in super().get_fieldsets(request, obj)
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """With what came from its AE title within the last hour."""
        node = self.get_object(request, object_id)
        traffic = traffic_of(node.ae_title, HOUR) if node else None
        context = {"traffic": traffic, "span": HOUR, **(extra_context or {})}
        return super().change_view(request, object_id, form_url, context)

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


class AsForNodes(admin.ModelAdmin):
    """Who may see and change nodes may see and change these rows."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """As for nodes."""
        return request.user.has_perm("nodes.view_remotenode") or self.has_change_permission(request, obj)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """As for nodes."""
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """As for nodes."""
        return request.user.has_perm("nodes.add_remotenode")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """As for nodes."""
        return request.user.has_perm("nodes.change_remotenode")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """As for nodes."""
        return request.user.has_perm("nodes.delete_remotenode")


@admin.register(CalledTitle)
class CalledTitleAdmin(AsForNodes):
    """What else senders may call us."""

    list_display = ("ae_title", "description")


@admin.register(RejectedCaller)
class RejectedCallerAdmin(AsForNodes):
    """Who was rejected and why; its page says what allowing it would change, and does it."""

    list_display = ("calling", "address", "called_ae_title", "reason", "count", "last_seen")
    list_filter = ("reason",)
    search_fields = ("calling_ae_title", "address")
    actions = ("forget",)

    class Media:
        css: ClassVar = {"all": ("nodes/traffic.css",)}

    @admin.display(description="calling AE title", ordering="calling_ae_title")
    def calling(self, caller: RejectedCaller) -> str:
        """Never empty: it is the link."""
        return caller.calling_ae_title or "(none)"

    @admin.display(description="last seen", ordering="last_seen_at")
    def last_seen(self, caller: RejectedCaller) -> str:
        """Short: the list is narrow."""
        return date_format(localtime(caller.last_seen_at), "SHORT_DATETIME_FORMAT")

    @admin.action(description="Forget", permissions=["change"])
    def forget(self, request: HttpRequest, callers: QuerySet[RejectedCaller]) -> None:
        """They come back when they call again."""
        count = callers.delete()[0]
        self.message_user(request, f"{count} forgotten. Who calls again is listed again.")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """With a title that says what the list is for."""
        title = "Rejected callers: open one to see why, and to allow it"
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """What allowing this caller would change; POST does it, or forgets the caller."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        caller = self.get_object(request, object_id)
        if caller is None:
            messages.warning(request, "That caller is no longer listed.")
            return redirect("admin:nodes_rejectedcaller_changelist")
        if request.method == "POST":
            return self._decide(request, caller)
        reason = hindrance(caller)
        context = {
            **self.admin_site.each_context(request),
            "title": "Rejected caller",
            "opts": self.opts,
            "caller": caller,
            "hindrance": reason,
            "ways": [] if reason else ways_to_allow(caller),
            "may_change": request.user.has_perms(_TO_ALLOW),
        }
        return render(request, "nodes/admin/rejected_caller.html", context)

    def _decide(self, request: HttpRequest, caller: RejectedCaller) -> HttpResponse:
        if not request.user.has_perms(_TO_ALLOW):
            raise PermissionDenied
        if "forget" in request.POST:
            self.forget(request, RejectedCaller.objects.filter(pk=caller.pk))
            return redirect("admin:nodes_rejectedcaller_changelist")
        try:
            node = allow(caller, request.POST.get("way", ""))
        except CannotAllowError as error:
            messages.error(request, str(error))
            return redirect("admin:nodes_rejectedcaller_change", caller.pk)
        self.log_change(request, node, f"Allowed {caller} from the list of rejected callers.")
        messages.success(request, f"{node} may connect from {caller.address} within two seconds.")
        return redirect("admin:nodes_remotenode_change", node.pk)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only callers make rows."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Forgotten by the action instead, which asks no question."""
        return False


@admin.register(TrafficMinute)
class TrafficAdmin(AsForNodes):
    """How much came from whom: one page for all AE titles, one for each."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """All callers, or with `?caller=` the one of that AE title."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        span = SPANS.get(request.GET.get("span", ""), HOUR)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "span": span,
            "spans": SPANS.values(),
            "own_ae_title": settings.AE_TITLE,
        }
        if "caller" in request.GET:
            traffic = traffic_of(request.GET["caller"][:64].replace("\0", ""), span)
            more = {"traffic": traffic, "title": traffic.ae_title or "Callers that are no nodes"}
            return render(request, "nodes/admin/traffic_of_one.html", context | more)
        more = {"callers": traffic_of_all(span), "title": "Traffic by AE title"}
        return render(request, "nodes/admin/traffic.html", context | more)

    def get_urls(self) -> list[URLPattern]:
        """One page; a minute has none of its own."""
        view = self.admin_site.admin_view(self.changelist_view)
        return [path("", view, name="nodes_trafficminute_changelist")]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only the receiver counts."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing is edited here."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Old numbers are removed by beat."""
        return False
