"""What the HTTP faces of both daemons share."""
