"""The engine's I/O: Twilio's webhooks, the media socket, the model's socket.

A call comes through these modules in this order:

- ``webhooks`` reads Twilio's request (``twilio_form``); ``testcalls`` stands in for it in a browser
- ``transactions`` writes the call down, if ``telephony.admission`` lets it in
- ``call_start`` asks the customer's backend and carries its decision out
- ``handover`` seals the plan and returns the ticket, which ``twiml`` gives to Twilio
- ``media`` listens; ``caller_side`` takes the socket and the ticket that comes over it
- ``runner`` runs the call between its two sockets, with ``model_side`` at the other end and
  ``recorder`` for the timeline; ``browser`` is the runner of a test call
- ``webhooks`` answers what Twilio is to do after the stream

``live`` and ``heart`` say which calls this engine holds and that it is up; ``gate`` whether it
takes new ones; ``tasks`` ends the calls that nobody else ends.
"""
