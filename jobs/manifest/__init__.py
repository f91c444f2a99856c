"""Building, checking and showing manifests.

A wrong option is a ``ConfigError``; what is wrong with a source is a ``ManifestError`` with its place in it.
"""
