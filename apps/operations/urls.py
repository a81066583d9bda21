"""Addresses of this app."""

from django.urls import path

from apps.operations import views

app_name = "operations"
urlpatterns = [path("healthz", views.healthz, name="healthz")]
