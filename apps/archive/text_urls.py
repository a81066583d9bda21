"""Addresses of the text repair pages. A row's key names a group: nothing that a file says stands in them."""

from django.urls import URLPattern, path

from apps.archive import text_views

app_name = "texts"
urlpatterns: list[URLPattern] = [
    path("", text_views.groups, name="groups"),
    path("<int:pk>/", text_views.group, name="group"),
    path("<int:pk>/decide/", text_views.decide, name="decide"),
]
