"""The API's endpoints for billing."""

from rest_framework.routers import SimpleRouter

from billing.views import BillingViewSet

router = SimpleRouter(trailing_slash=False)
router.register("billing", BillingViewSet, basename="billing")

urlpatterns = router.urls
