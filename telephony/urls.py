"""API endpoints of telephony, below ``/api/``."""

from rest_framework.routers import SimpleRouter

from telephony.api.calls import CallViewSet
from telephony.api.deliveries import DeliveryViewSet
from telephony.api.outbound import OutboundViewSet
from telephony.api.phone_numbers import PhoneNumberViewSet

router = SimpleRouter(trailing_slash=False)
router.register("phone-numbers", PhoneNumberViewSet, basename="phone-number")
router.register("outbound", OutboundViewSet, basename="outbound")
router.register("calls", CallViewSet, basename="call")
router.register("deliveries", DeliveryViewSet, basename="delivery")

urlpatterns = router.urls
