"""Building, checking and showing manifests.

A wrong option is a ``ConfigError``; a wrong source is a ``ManifestError`` that names the place in it.
"""
