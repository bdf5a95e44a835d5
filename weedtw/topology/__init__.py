"""Who holds what, and where the next volume goes.  Pure."""
