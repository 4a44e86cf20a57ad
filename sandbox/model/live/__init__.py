"""GPT-Live: a model that hears and speaks at the same time, and leaves work to a backend."""
