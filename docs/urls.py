"""URLs of the documentation site."""

from django.urls import path, re_path

from docs import views

urlpatterns = [
    path("", views.landing, name="landing"),
    re_path(r"^docs/?$", views.index, name="docs"),
    path("docs/search-<slug:digest>.json", views.search, name="docs-search"),
    path("docs/api", views.api_reference, name="api-reference"),
    path("docs/<slug:slug>", views.guide, name="guide"),
    path("docs/<slug:slug>.md", views.guide_markdown, name="guide-markdown"),
    path("llms.txt", views.llms, name="llms"),
    path("SKILL.md", views.skill, name="skill"),
    path("api/schema", views.SchemaView.as_view(), name="schema"),
]
