"""What would still make sense in a Flask service that has nothing to do with chat."""
