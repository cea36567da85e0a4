"""A reply is the server's job: it ends in the store whoever listens, and no thread wakes for a token."""
