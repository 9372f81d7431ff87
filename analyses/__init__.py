"""Questions to pages: every job of the command line, its facts, its figures and its page."""
