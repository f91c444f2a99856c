"""The input contract: what a manifest holds, how its rows are checked, and how it is cut into shards."""
