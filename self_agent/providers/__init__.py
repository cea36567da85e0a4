"""Where replies come from: one contract, an implementation for each way to reach a model."""
