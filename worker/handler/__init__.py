"""What each kind of job does, readable as a sentence."""
