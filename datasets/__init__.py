"""Recipes for sample and benchmark photo sets; the pictures themselves are not here."""
