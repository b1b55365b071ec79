"""How much a key or an address may do: requests by a token bucket, turns at once by slots."""
