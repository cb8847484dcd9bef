"""The way to an API server: kubeconfig, context and namespace go in, requests come out; only this knows the client."""

import ipaddress
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import urllib3
import yaml
from urllib3.exceptions import HTTPError, MaxRetryError, ProxyError

from tunesmith.cluster.answers import problem_of, unreachable
from tunesmith.cluster.problem import ClusterProblem, wrong
from tunesmith.extras import install_command
from tunesmith.proxies import named_for, proxy_at
from tunesmith_api.failures import StageFailure

# Seconds. The API server itself gives up after 60 (--request-timeout).
_CONNECT, _READ = 10.0, 65.0
_CHUNK_BYTES = 1 << 16
# Where a pod finds its own namespace (Kubernetes, "Accessing the API from a Pod").
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True, slots=True)
class Aim:
    """Which cluster and namespace a command is for; None where the usual ones are meant."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: Path | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """An API server; `namespace` is the context's own, None where it has none. Every call raises `ClusterProblem`."""

    server: str
    namespace: str | None
    client: Any

    def where(self, *named: str | None) -> str:
        """The namespace: the first that is named, else the context's, else the one that every cluster has."""
        return next((name for name in (*named, self.namespace) if name), "default")

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content: str = "application/json",
    ) -> tuple[int, dict[str, Any]]:
        """One request; the status and the object of the answer."""
        with self._reached():
            answer = self._sent(method, path, query, (body, content), (_CONNECT, _READ))
            data = answer.read()
        if answer.status >= 400:  # noqa: PLR2004  # RFC 9110: errors begin here
            raise problem_of(answer.status, data, self.server)
        try:
            return answer.status, dict(json.loads(data))
        except ValueError as error:
            raise unreachable(self.server, "what answers there is no API server") from error

    def stream(self, path: str, query: Mapping[str, str], quiet_seconds: float | None) -> Iterator[bytes]:
        """What comes, as it comes, until the other side ends it; `quiet_seconds` is how long nothing may come."""
        with self._reached():
            answer = self._sent("GET", path, query, (None, ""), (_CONNECT, quiet_seconds))
            try:
                if answer.status >= 400:  # noqa: PLR2004  # RFC 9110: errors begin here
                    raise problem_of(answer.status, answer.read(), self.server)
                yield from answer.response.stream(_CHUNK_BYTES)
            finally:
                answer.response.close()

    def _sent(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        sent: tuple[Mapping[str, Any] | None, str],
        timeout: tuple[float, float | None],
    ) -> Any:
        body, content = sent
        request = self.client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json, */*"} | ({} if body is None else {"Content-Type": content}),
            body=body,
            auth_settings=["BearerToken"],
        )
        return self.client.call_api(*request, _request_timeout=timeout)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        from kubernetes.client.exceptions import ApiException

        try:
            yield
        except ApiException as error:
            # Of status 0: a certificate that is not trusted; all other answers are looked at, and not raised.
            raise unreachable(self.server, str(error.reason).replace("\n", ": ")) from error
        except HTTPError as error:
            raise unreachable(self.server, _why(error)) from error


def connect(aim: Aim) -> Connection:
    """The API server that kubectl would ask; nothing is sent yet."""
    try:
        from kubernetes import client
    except ModuleNotFoundError as error:
        raise ClusterProblem(
            "this command needs the Kubernetes client, which is not installed", install_command("cluster")
        ) from error
    # No proxy of the environment yet: which of them counts, `_proxied` says.
    settings = client.Configuration(proxy="")
    named = str(aim.kubeconfig) if aim.kubeconfig else os.environ.get("KUBECONFIG") or "~/.kube/config"
    if _exists(named):
        namespace = _of_kubeconfig(named, aim.context, settings)
    elif aim.kubeconfig is None and aim.context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        namespace = _of_pod(settings)
    else:
        hint = "Name one with --kubeconfig or KUBECONFIG: what kubectl uses to reach the cluster."
        raise ClusterProblem(f"there is no kubeconfig {named}", hint)
    settings.retries = urllib3.Retry(total=2, read=0, other=0, status=0, redirect=0, backoff_factor=0.5)
    settings.keep_alive = True
    with _proxied(settings):
        return Connection(str(settings.host), namespace, client.ApiClient(settings))


def _of_kubeconfig(named: str, context: str | None, settings: Any) -> str | None:
    """Fill in `settings`; the context's namespace. A token that is renewed on the way is kept, as kubectl keeps it."""
    from kubernetes.config import kube_config

    untyped: Any = kube_config
    with _readable(named):
        files = untyped.KubeConfigMerger(named)
        loader = untyped.KubeConfigLoader(
            config_dict=files.config, active_context=context, config_base_path=None, config_persister=files.save_changes
        )
        loader.load_and_set(settings)
        return (loader.current_context.get("context") or {}).get("namespace") or None


def _of_pod(settings: Any) -> str | None:
    from kubernetes import config

    untyped: Any = config
    with _readable("of this pod"):
        untyped.load_incluster_config(client_configuration=settings)
    return _OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.is_file() else None


@contextmanager
def _proxied(settings: Any) -> Iterator[None]:
    """The proxy that kubectl takes: the kubeconfig's own for any host, else the environment's but for loopback.

    (client-go, rest.Config.Proxy; net/http, ProxyFromEnvironment.) That of NO_PROXY which is a range of addresses is
    left to the client, and so is SOCKS.
    """
    if settings.proxy:
        settings.no_proxy = ""
    named = settings.proxy or (None if _on_loopback(settings.host) else named_for(settings.host))
    try:
        if named and not named.startswith("socks"):
            proxy = proxy_at(named, "the API server (HTTPS_PROXY, or the kubeconfig's proxy-url)")
            named, settings.proxy_headers = proxy.url, proxy.headers
        settings.proxy = named
        yield
    except StageFailure as failure:
        raise wrong(failure.message, failure.hint) from failure
    except ModuleNotFoundError as error:
        raise wrong("the API server's proxy speaks SOCKS, which needs a package", "pip install pysocks") from error


def _on_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _exists(named: str) -> bool:
    """KUBECONFIG may list several, of which those that exist are merged."""
    return any(Path(part).expanduser().is_file() for part in named.split(os.pathsep) if part)


@contextmanager
def _readable(named: str) -> Iterator[None]:
    from kubernetes.config import ConfigException

    try:
        yield
    except (ConfigException, OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ClusterProblem(
            f"the kubeconfig {named} cannot be used: {said}", "'kubectl config get-contexts' lists what it has."
        ) from error


def _why(error: HTTPError) -> str:
    reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
    if isinstance(error, MaxRetryError) and isinstance(reason, ProxyError):
        pool: Any = error.pool
        return f"the proxy {pool.proxy.netloc}: {_plain(reason.original_error)}"
    return _plain(reason)


def _plain(reason: Exception) -> str:
    """urllib3 begins many of its sentences with the object that it speaks of."""
    text = str(reason)
    return text.rpartition(">: ")[2] if text.startswith("<") else text.partition("): ")[2] or text
