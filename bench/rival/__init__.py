"""Servers of others, as their own guides have them, to be measured beside ours."""
