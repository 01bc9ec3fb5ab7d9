"""Bodies and queries of requests, validated with the limits of the API reference."""
