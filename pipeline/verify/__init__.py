"""The independent check of an output. A store out of reach is a ``StoreError``, and says nothing of the output."""
