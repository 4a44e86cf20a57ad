"""OpenAI's GPT-Live: ``gpt-live-1`` and its successors. The model owns turns and interruption."""
