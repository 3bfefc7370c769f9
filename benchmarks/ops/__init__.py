"""One benchmark per native operation, in files of the operation's name."""
