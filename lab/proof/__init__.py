"""Proof: how much transfers, where it fails, and against what people do today.

`python -m harness lab.proof [NAME ...]` runs the experiments (those whose name contains one of NAMEs, or all) on the
lab's models in the host, and writes docs/proof: results.json, and tables and figures made of it.
"""
