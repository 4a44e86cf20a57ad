"""The engine's I/O: Twilio's webhooks, the media socket, the model's socket.

A call passes through these modules in this order:

- ``webhooks`` parses Twilio's request (``twilio_form``); for a test call, ``testcalls`` replaces it
- ``transactions`` records the call, if ``telephony.admission`` admits it
- ``call_start`` asks the customer's backend and carries out its decision
- ``handover`` seals the plan and returns the ticket, which ``twiml`` passes to Twilio
- ``media`` listens; ``caller_side`` handles the socket and the ticket that arrives over it
- ``runner`` runs the call between its two sockets, with ``model_side`` for the model's and
  ``recorder`` for the timeline; ``browser`` is the runner of a test call
- ``giving_out`` lets another stream go on with it, or ``ending`` records its end, with the outcome
  that ``outcomes`` makes
- ``webhooks`` tells Twilio what to do after the stream

``live`` and ``heartbeat`` report the calls that this engine holds, and that it is up.
``drain_state`` knows whether it accepts new ones, and ``departures`` when the calls of one that
drains leave it. ``tasks`` ends the calls that nothing else ends.
"""
