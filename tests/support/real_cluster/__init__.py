"""A real Kubernetes of one node on this machine: control plane, kubelet, containerd, DNS, MinIO and an image registry.

``python -m support.real_cluster up`` starts it, or finds it running, and prints the path of an administrator's
kubeconfig; ``down`` stops it and leaves no process, mount, interface or rule behind. Needs root and the packages of
``requirements/cluster.sh``.
"""
