"""The build stage: from a recipe and a promoted adapter to an engine bundle."""
