"""The local runner: one process per stage, the output folder as the object's record."""
