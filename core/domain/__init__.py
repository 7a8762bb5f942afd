"""The nouns and the rules; standard library and pydantic only."""
