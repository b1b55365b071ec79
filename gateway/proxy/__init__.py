"""One turn through the gateway: admission, the upstream, the relay, the client."""
