"""Where mails go while there is no mail server: a mailbox that everybody on this machine reads."""
