"""E-mail to users: what is to be sent waits in the database until a mail server has taken it."""
