"""The real servers from wheels, on loopback: Postgres, Valkey, and an S3 server over a folder."""
