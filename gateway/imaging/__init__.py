"""Pixels: decode frames, render them for people, inside bounded worker processes."""
