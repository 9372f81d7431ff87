"""The live half of geometry: text runs through a model and becomes rows."""
