"""The API of Tunesmith: spec, status, plan, keys, gates, failure classes, stage request and result; pydantic only."""
