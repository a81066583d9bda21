"""Accounts and roles. The product's name on every page of the administration."""

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.db.models import Count, QuerySet
from django.http import HttpRequest

from apps.accounts.models import User

admin.site.site_header = "dicomsys administration"
admin.site.site_title = "dicomsys"
admin.site.index_title = "Administration"
admin.site.unregister(Group)


@admin.register(User)
class AccountAdmin(UserAdmin):
    """Members of staff; what they may do comes from their roles."""

    list_display = ("username", "first_name", "last_name", "roles", "is_staff", "is_active", "last_login")
    list_filter = ("groups", "is_active", "is_staff", "is_superuser")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("What they may do", {"fields": ("is_active", "is_staff", "groups")}),
        ("Exceptions", {"classes": ("collapse",), "fields": ("is_superuser", "user_permissions")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"fields": ("username", "usable_password", "password1", "password2", "groups")}),)
    readonly_fields = ("last_login", "date_joined")

    @admin.display(description="roles")
    def roles(self, user: User) -> str:
        """Names of the account's groups."""
        return ", ".join(sorted(group.name for group in user.groups.all()))

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        """With the groups of all rows in one query."""
        return super().get_queryset(request).prefetch_related("groups")

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        """Only a superuser makes superusers or grants single permissions."""
        fixed = tuple(super().get_readonly_fields(request, obj))
        return fixed if request.user.is_superuser else (*fixed, "is_superuser", "user_permissions")


@admin.register(Group)
class RoleAdmin(GroupAdmin):
    """Roles: named sets of permissions."""

    list_display = ("name", "member_count")

    @admin.display(description="members", ordering="member_count")
    def member_count(self, group: Group) -> int:
        """How many accounts hold the role."""
        return getattr(group, "member_count", 0)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        """With the number of members."""
        return super().get_queryset(request).annotate(member_count=Count("user"))


@admin.register(LogEntry)
class LogEntryAdmin(admin.ModelAdmin):
    """What was changed in the administration, by whom; to look at only."""

    list_display = ("action_time", "user", "content_type", "object_id", "action_flag", "get_change_message")
    list_filter = ("action_flag", "content_type")
    list_select_related = ("user", "content_type")
    date_hierarchy = "action_time"

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Only the administration itself writes here."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: LogEntry | None = None) -> bool:
        """An entry is never edited."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: LogEntry | None = None) -> bool:
        """An entry is never removed."""
        return False
