"""Any OpenAI-compatible API: its tokens are relayed as they come, and its failures told in our own words."""
