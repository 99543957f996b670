"""Measuring how well the ranking does, beside other rankings, on photos whose truth is known."""
