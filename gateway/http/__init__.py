"""The public listener: paths, the one middleware, the server."""
