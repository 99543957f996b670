"""Stores, one module for each engine; see `cbir.store`."""
