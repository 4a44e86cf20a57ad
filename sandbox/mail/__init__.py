"""A mailbox in place of a mail server, which everybody on this machine can read."""
