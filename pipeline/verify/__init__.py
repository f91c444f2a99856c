"""The independent check of an output. A ``StoreError`` means that the store is out of reach, not a damaged output."""
