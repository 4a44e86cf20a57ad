"""The queue of background jobs, and the worker that runs them."""
