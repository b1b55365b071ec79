"""What an operator sees: one record per request, its metrics and its log line."""
