"""From the models: the CRD manifest, the JSON schema for editors and the reference page."""
