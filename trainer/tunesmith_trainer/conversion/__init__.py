"""The parts of the stage convert: what is merged, what is converted, and what is written into it."""
