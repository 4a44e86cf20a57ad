"""The API's endpoints for usage."""

from rest_framework.routers import SimpleRouter

from usage.views import UsageViewSet

router = SimpleRouter(trailing_slash=False)
router.register("usage", UsageViewSet, basename="usage")

urlpatterns = router.urls
