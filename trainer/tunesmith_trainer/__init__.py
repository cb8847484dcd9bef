"""The stages: one module each, run as ``python -m tunesmith_trainer STAGE --request FILE --result FILE``."""
