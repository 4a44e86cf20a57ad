"""OpenAI's Realtime protocol: ``gpt-realtime`` and its successors."""
