"""Endpoints of telephony, below ``/api/``."""

from rest_framework.routers import SimpleRouter

from telephony.api.phone_numbers import PhoneNumberViewSet

router = SimpleRouter(trailing_slash=False)
router.register("phone-numbers", PhoneNumberViewSet, basename="phone-number")

urlpatterns = router.urls
