"""The Lumina-DiMOO engine: torch only, no storage, no cluster; runs alone on a bare GPU machine."""
