"""Regions: ways of dividing faces into regions, and how well regions agree with the parts of a face."""
