"""What NetworkPolicies let through, by the rules of networking.k8s.io/v1; to enforce them is a network plugin's."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Policy = Mapping[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod; `ports` are the numbers of those that it names."""

    namespace: str
    labels: Mapping[str, str]
    ports: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Flow:
    """A connection that somebody opens: to an address and port, which may be a pod's."""

    source: Pod | None
    address: str
    port: int
    protocol: str = "TCP"
    target: Pod | None = None


def allowed(flow: Flow, policies: Iterable[Policy], namespaces: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether no policy of either end is against it; `namespaces` are all that there are, with their labels."""
    known = list(policies)
    return _let(flow, known, namespaces, "Egress") and _let(flow, known, namespaces, "Ingress")


def _let(flow: Flow, policies: Sequence[Policy], namespaces: Mapping[str, Mapping[str, str]], way: str) -> bool:
    """A pod that some policy of this direction selects is let do what one of them names."""
    own, other = (flow.source, flow.target) if way == "Egress" else (flow.target, flow.source)
    if own is None:
        return True
    found = [each for each in policies if way in each["spec"]["policyTypes"] and _is_about(each, own)]
    rules = [rule for each in found for rule in each["spec"].get(way.lower()) or ()]
    peers = "to" if way == "Egress" else "from"
    return not found or any(_ports(rule, flow) and _peers(rule.get(peers), flow, other, namespaces) for rule in rules)


def _is_about(policy: Policy, pod: Pod) -> bool:
    return policy["metadata"]["namespace"] == pod.namespace and selects(policy["spec"]["podSelector"], pod.labels)


def _ports(rule: Mapping[str, Any], flow: Flow) -> bool:
    named = {} if flow.target is None else flow.target.ports
    ports = rule.get("ports")
    return not ports or any(
        each.get("protocol", "TCP") == flow.protocol and named.get(each["port"], each["port"]) == flow.port
        for each in ports
    )


def _peers(
    peers: Sequence[Mapping[str, Any]] | None,
    flow: Flow,
    other: Pod | None,
    namespaces: Mapping[str, Mapping[str, str]],
) -> bool:
    return not peers or any(_is_peer(each, flow.address, other, namespaces) for each in peers)


def _is_peer(
    peer: Mapping[str, Any], address: str, other: Pod | None, namespaces: Mapping[str, Mapping[str, str]]
) -> bool:
    if "ipBlock" in peer:
        block, at = peer["ipBlock"], ipaddress.ip_address(address)
        within = [at in ipaddress.ip_network(each) for each in block.get("except", ())]
        return at in ipaddress.ip_network(block["cidr"]) and not any(within)
    if other is None:
        return False
    spaces, pods = peer.get("namespaceSelector"), peer.get("podSelector")
    return (spaces is None or selects(spaces, namespaces[other.namespace])) and (
        pods is None or selects(pods, other.labels)
    )


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """A label selector (meta/v1)."""
    exact = (selector.get("matchLabels") or {}).items() <= labels.items()
    return exact and all(_holds(each, labels) for each in selector.get("matchExpressions") or ())


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator = expression["key"], expression["operator"]
    if operator in ("Exists", "DoesNotExist"):
        return (key in labels) is (operator == "Exists")
    return (labels.get(key) in expression["values"]) is (operator == "In")
