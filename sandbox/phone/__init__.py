"""A telephone network that speaks Twilio: REST, signed webhooks, TwiML and media streams.

:class:`sandbox.phone.exchange.Phone` is where calls begin. It knows nothing of the product: it
develops against anything that answers a voice webhook.
"""
