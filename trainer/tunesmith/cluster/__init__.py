"""Jobs in a cluster, from a laptop: what a person asks for becomes requests of the API server, and what it answers."""
