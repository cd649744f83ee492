"""De-identification by PS3.15 Annex E: a data set goes in, what a profile leaves of it comes out. No I/O."""

from gateway.deid.engine import Deidentified, deidentify
from gateway.deid.explain import Done, Outcome
from gateway.deid.pixel_data import PixelFindings
from gateway.deid.profile import Option, Profile
from gateway.deid.pseudonyms import DateShift, PseudonymousPatient, Pseudonyms
from gateway.deid.recipe import Recipe
from gateway.deid.safe_private import SafePrivate
from gateway.deid.text import RemoveAll, TextCleaner

__all__ = [
    "DateShift",
    "Deidentified",
    "Done",
    "Option",
    "Outcome",
    "PixelFindings",
    "Profile",
    "PseudonymousPatient",
    "Pseudonyms",
    "Recipe",
    "RemoveAll",
    "SafePrivate",
    "TextCleaner",
    "deidentify",
]
