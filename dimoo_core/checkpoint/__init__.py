"""Files on disk to a loaded model. All that is wrong with them is a ``WeightsError`` with the file and the fix."""
