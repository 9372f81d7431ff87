"""Measurements of speed and memory against named peers; never run as tests."""
