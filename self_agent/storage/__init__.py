"""Where conversations are kept: one contract, several implementations, one test suite over all."""
