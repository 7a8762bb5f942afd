"""Is the challenger better?"""
