"""Submits AI audio jobs, takes the providers' callbacks, and archives the audio before its links die."""
