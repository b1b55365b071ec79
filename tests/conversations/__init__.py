"""Conversations: what stores keep, and what turns, retries and tools' results make of it."""
