"""The embedded model: weights that are fetched once, a child process that holds them, and a provider that asks it."""
