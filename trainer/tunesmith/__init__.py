"""The command line, the local runner, the resolver and the store; needs neither torch nor Kubernetes."""
