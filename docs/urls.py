"""URLs of the documentation site."""

from django.urls import path, re_path

from docs import views

urlpatterns = [
    path("", views.landing),
    re_path(r"^docs/?$", views.index),
    path("docs/api", views.api_reference),
    path("docs/<slug:slug>", views.guide),
    path("docs/<slug:slug>.md", views.guide_markdown),
    path("llms.txt", views.llms),
    path("SKILL.md", views.skill),
    path("api/schema", views.SchemaView.as_view(), name="schema"),
]
