"""Build script; everything that can be declared is declared in setup.cfg."""

from __future__ import annotations

from setuptools import setup

setup()
