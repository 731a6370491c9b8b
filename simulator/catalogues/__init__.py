"""Catalogues that are part of the package, and the derivation of the largest.

Reading order: tables (published figures) -> latency_formula -> fit (its constants, and its errors) -> derive (the
catalogue `infaas-44x270`). `docs/catalogue.md` lists the sources.
"""
