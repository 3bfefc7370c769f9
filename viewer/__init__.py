"""What people look at: the report of a field as one page that needs no other file."""
