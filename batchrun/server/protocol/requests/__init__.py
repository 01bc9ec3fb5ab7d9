"""Bodies and queries of requests, validated with the reference's limits."""
