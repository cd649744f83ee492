"""The chart: what Helm and Kubernetes accept, and what a hospital relies on."""

from __future__ import annotations

import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helm_python import Chart, lint
from helm_python.errors import HelmError

from gateway import cli, config
from gateway.worker import Face
from tests.gateway.http.conftest import Authority
from tests.helm.conftest import CHART, Manifest, Render, merged, of_kind, pods, values_of

NOT_OF_KUBERNETES = ("ServiceMonitor",)
FACES = {"demo-gateway-dimse", "demo-gateway-http", "demo-gateway-background"}
POLICY = '[[principal]]\nname = "anybody"\nkind = "ae"\nae_title = "*"\nnetworks = ["10.0.0.0/8"]\nactions = ["echo"]\n'


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


def settings_text(manifests: list[Manifest]) -> str:
    (found,) = [each for each in of_kind(manifests, "ConfigMap") if "gateway.toml" in each["data"]]
    return str(found["data"]["gateway.toml"])


def test_lint_finds_nothing(case: str) -> None:
    report = lint(CHART, values_of(case), strict=True, kube_version="v1.33.0")
    assert report["errors"] == []
    assert [each["error"] for each in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", ["1.27", "1.32", "1.37"])
def test_kubernetes_knows_every_field(manifests: list[Manifest], version: str) -> None:
    for manifest in manifests:
        if manifest["kind"] not in NOT_OF_KUBERNETES:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_an_unknown_field_would_be_noticed(manifests: list[Manifest]) -> None:
    broken = copy.deepcopy(of_kind(manifests, "Deployment")[0])
    broken["spec"]["replicaz"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.32", strict=True)


def test_names_are_unique_and_labelled(manifests: list[Manifest]) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in manifests]
    assert len(set(names)) == len(names)
    for manifest in manifests:
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "demo"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"


def test_every_container_is_without_privileges(manifests: list[Manifest]) -> None:
    assert pods(manifests).keys() >= FACES
    for pod in pods(manifests).values():
        of_pod = pod["spec"]["securityContext"]
        assert of_pod["runAsNonRoot"] is True
        assert of_pod["runAsUser"] > 0
        assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod["spec"].keys()
        assert not any("hostPath" in volume for volume in pod["spec"]["volumes"])
        for container in containers(pod):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "privileged" not in context
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"]["cpu"]


def test_everything_mounted_is_there_and_what_is_written_has_a_volume(manifests: list[Manifest]) -> None:
    for name, pod in pods(manifests).items():
        claims = {each["metadata"]["name"] for each in _claims(manifests, name)}
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]} | claims
        mounts = [mount for container in containers(pod) for mount in container["volumeMounts"]]
        assert {mount["name"] for mount in mounts} == volumes
        assert "/tmp" in {mount["mountPath"] for mount in mounts}
    written = {mount["mountPath"] for mount in containers(pods(manifests)["demo-gateway-dimse"])[0]["volumeMounts"]}
    found = config.Settings(**tomllib.loads(settings_text(manifests)))
    assert str(found.storage.directory) in written
    spool = {volume["name"]: volume for volume in pods(manifests)["demo-gateway-http"]["spec"]["volumes"]}["data"]
    assert spool["emptyDir"]["sizeLimit"] == "20Gi"


def _claims(manifests: list[Manifest], name: str) -> list[Manifest]:
    (workload,) = [each for each in of_kind(manifests, "Deployment", "StatefulSet") if each["metadata"]["name"] == name]
    found: list[Manifest] = workload["spec"].get("volumeClaimTemplates", [])
    return found


def test_selectors_find_the_pods_that_they_mean(manifests: list[Manifest]) -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(manifests).items()}
    for workload in of_kind(manifests, "Deployment", "StatefulSet"):
        name = workload["metadata"]["name"]
        assert [each for each in labels if selects(workload["spec"]["selector"]["matchLabels"], labels[each])] == [name]
        for spread in workload["spec"]["template"]["spec"].get("topologySpreadConstraints", ()):
            assert selects(spread["labelSelector"]["matchLabels"], labels[name])
    for kind, path in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        for each in of_kind(manifests, kind):
            found = [name for name in labels if selects(each["spec"][path]["matchLabels"], labels[name])]
            assert found == [each["metadata"]["name"]]
    for service in of_kind(manifests, "Service"):
        ports = {port["targetPort"] for port in service["spec"]["ports"]}
        found = [name for name in labels if selects(service["spec"]["selector"], labels[name])]
        if service["metadata"]["name"] == "demo-gateway-metrics":
            assert set(found) >= FACES
            found = sorted(FACES)
        else:
            assert found == [service["metadata"]["name"]]
        for name in found:
            offered = {
                port["name"] for container in containers(pods(manifests)[name]) for port in container.get("ports", ())
            }
            assert ports <= offered
    for monitor in of_kind(manifests, "ServiceMonitor"):
        found = [
            service["metadata"]["name"]
            for service in of_kind(manifests, "Service")
            if selects(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"])
        ]
        assert found == ["demo-gateway-metrics"]
        (endpoint,) = monitor["spec"]["endpoints"]
        assert (monitor["apiVersion"], endpoint["port"], endpoint["path"]) == (
            "monitoring.coreos.com/v1",
            "metrics",
            "/metrics",
        )


def test_an_ingress_leads_to_services_that_are_there(render: Render) -> None:
    manifests = render(values_of("everything"))
    (ingress,) = of_kind(manifests, "Ingress")
    services = {each["metadata"]["name"]: each for each in of_kind(manifests, "Service")}
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] == "imaging.example.org"
    (path,) = rule["http"]["paths"]
    backend = path["backend"]["service"]
    assert (path["path"], backend) == ("/imaging", {"name": "demo-gateway-http", "port": {"name": "http"}})
    assert backend["port"]["name"] in {port["name"] for port in services[backend["name"]]["spec"]["ports"]}


def test_an_ingress_without_a_prefix_leads_everything_to_the_pages(render: Render) -> None:
    more = {"settings": {"http": {"path_prefix": ""}}}
    (ingress,) = of_kind(render(merged(values_of("everything"), more)), "Ingress")
    (rule,) = ingress["spec"]["rules"]
    assert [path["path"] for path in rule["http"]["paths"]] == ["/"]


def test_the_gateway_accepts_its_settings_and_its_command_line(
    manifests: list[Manifest],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = settings_text(manifests)
    mounted = {mount["mountPath"] for mount in containers(pods(manifests)["demo-gateway-http"])[0]["volumeMounts"]}
    for path in re.findall(r'"(/(?:etc|var)/[^"]*)"', text):
        assert {path, str(Path(path).parent)} & mounted
        text = text.replace(f'"{path}"', f'"{tmp_path}{path}"')
    for name in ("policy/policy.toml", "ca/ca.crt", "index/password", "keys/k1.key"):
        path_of = tmp_path / f"etc/gateway-{name}"
        path_of.parent.mkdir(parents=True)
        path_of.write_text(POLICY if name.startswith("policy") else "0" * 64)
    authority, tls = Authority(tmp_path), tmp_path / "etc/gateway-dimse-tls"
    certificate, key = authority.issue("gateway")
    tls.mkdir()
    for file, name in ((certificate, "tls.crt"), (key, "tls.key"), (authority.file, "ca.crt")):
        file.rename(tls / name)
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    loaded = config.load(file)
    assert (loaded.index.engine, loaded.storage.objects) == ("postgres", "s3")
    assert (loaded.http.port, loaded.dimse.port, loaded.metrics.port) == (8080, 11112, 9464)
    assert loaded.log.format == "json"
    assert cli.main(["check-config", "-c", str(file)]) == 0, capsys.readouterr().err
    for face in Face:
        pod = pods(manifests)[f"demo-gateway-{face}"]
        (container,) = containers(pod)
        options = cli.parser().parse_args(container["args"])
        assert options.face == [face]
        assert str(options.config) == "/etc/gateway/gateway.toml"
        variables = {each["name"]: each.get("value") for each in container["env"]}
        assert variables["GATEWAY_AUDIT__DIRECTORY"] == "/var/lib/gateway-audit/$(POD_NAME)"
        (audit,) = [each for each in pod["spec"]["volumes"] if each["name"] == "audit"]
        assert ("persistentVolumeClaim" in audit) is ("GATEWAY_AUDIT__OTHER_DIRECTORIES" in variables)
        if "GATEWAY_AUDIT__OTHER_DIRECTORIES" in variables:
            monkeypatch.setenv("GATEWAY_AUDIT__OTHER_DIRECTORIES", str(variables["GATEWAY_AUDIT__OTHER_DIRECTORIES"]))
            assert config.load(file).audit.other_directories == (Path("/var/lib/gateway-audit"),)


def test_dimse_speaks_tls_with_a_secret(render: Render) -> None:
    values = merged(values_of("everything"), {"dimse": {"tls": {"clientCertificates": "required", "orClear": False}}})
    manifests = render(values)
    dimse = config.Settings(**tomllib.loads(settings_text(manifests))).dimse
    assert (dimse.tls_client_certificates, dimse.tls_or_clear) == ("required", False)
    assert {str(dimse.tls_certificate_file), str(dimse.tls_key_file), str(dimse.tls_client_ca_file)} == {
        f"/etc/gateway-dimse-tls/{name}" for name in ("tls.crt", "tls.key", "ca.crt")
    }
    for pod in pods(manifests).values():
        if containers(pod)[0]["name"] == "gateway":
            (volume,) = [each for each in pod["spec"]["volumes"] if each["name"] == "dimse-tls"]
            assert volume["secret"]["secretName"] == "dimse-tls"
    assert "tls_certificate_file" not in settings_text(render(values_of("minimal")))


def test_what_the_user_sets_arrives_and_what_the_chart_decides_wins(render: Render) -> None:
    values = merged(values_of("everything"), {"settings": {"http": {"port": 1, "max_results": 7}}})
    found = config.Settings(**tomllib.loads(settings_text(render(values))))
    assert (found.http.port, found.http.max_results, found.dimse.ae_title) == (8080, 7, "HOSPITAL")
    assert found.storage.max_instance_bytes == 16 << 30


def test_drains_end_before_pods_are_killed(manifests: list[Manifest]) -> None:
    found = config.Settings(**tomllib.loads(settings_text(manifests)))
    for face, drain_s in (("dimse", found.dimse.drain_s), ("http", found.http.drain_s)):
        pod = pods(manifests)[f"demo-gateway-{face}"]["spec"]
        (container,) = pod["containers"]
        waits_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
        # The supervisor kills what has not ended 5 s after the drain.
        assert pod["terminationGracePeriodSeconds"] > waits_s + drain_s + 5


def test_secrets_come_by_reference_only(manifests: list[Manifest]) -> None:
    assert of_kind(manifests, "Secret") == []
    for manifest in of_kind(manifests, "ConfigMap"):
        text = yaml.safe_dump(manifest).lower()
        assert not re.search(r"secret_access_key|access_key_id|api_key|://[^/\s]*:[^/\s]*@", text)
    for pod in pods(manifests).values():
        for container in containers(pod):
            for variable in container.get("env", ()):
                if re.search("SECRET|KEY_ID|PASSWORD", variable["name"]) and not variable["name"].endswith("_FILE"):
                    assert "secretKeyRef" in variable["valueFrom"]


def test_the_address_of_a_modality_survives(render: Render) -> None:
    (service,) = [
        each
        for each in of_kind(render(values_of("minimal")), "Service")
        if each["metadata"]["name"] == "demo-gateway-dimse"
    ]
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["spec"]["externalTrafficPolicy"] == "Local"


def test_there_is_one_background_pod_at_a_time(manifests: list[Manifest]) -> None:
    (found,) = [
        each for each in of_kind(manifests, "Deployment") if each["metadata"]["name"] == "demo-gateway-background"
    ]
    assert found["spec"]["replicas"] == 1
    assert found["spec"]["strategy"] == {"type": "Recreate"}


def test_who_scales_sets_no_number_of_pods(render: Render) -> None:
    manifests = render(values_of("everything"))
    (scaler,) = of_kind(manifests, "HorizontalPodAutoscaler")
    target = scaler["spec"]["scaleTargetRef"]["name"]
    (workload,) = [each for each in of_kind(manifests, "Deployment") if each["metadata"]["name"] == target]
    assert "replicas" not in workload["spec"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"replicaz": 2}, "replicaz"),
        ({"image": {"repository": ""}}, "repository"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"policy": {"existingSecret": ""}}, "policy"),
        ({"policy": {"existingConfigMap": "both"}}, "policy"),
        ({"objects": {"bucket": ""}}, "bucket"),
        ({"index": {"url": ""}}, "url"),
        ({"index": {"url": "postgresql://gateway:password@db/gateway"}}, "url"),
        ({"index": {"url": "postgresql://gateway@db/gateway?password=x"}}, "url"),
        ({"settings": {"s3": {"secret_access_key": "x"}}}, "secret_access_key"),
        ({"settings": {"index": {"url": "postgresql://a:b@c/d"}}}, "url"),
        ({"seaweedfs": {"enabled": True}}, "existingSecret"),
        ({"postgresql": {"enabled": True}, "index": {"existingSecret": ""}}, "existingSecret"),
        ({"ingress": {"enabled": True}}, "host"),
        ({"background": {"replicas": 2}}, "replicas"),
        ({"dimse": {"replicas": "two"}}, "replicas"),
        ({"dimse": {"service": {"externalTrafficPolicy": "local"}}}, "externalTrafficPolicy"),
        ({"spool": {"sizeLimit": "20 GB"}}, "sizeLimit"),
        ({"extraEnv": [{"name": "GATEWAY_S3__CUSTOMER_KEY", "value": "x"}]}, "value"),
    ],
    ids=str,
)
def test_wrong_values_are_refused_by_name(chart: Chart, values: dict[str, Any], told: str) -> None:
    chart.validate_schema(values_of("minimal"))
    with pytest.raises(HelmError, match=told):
        chart.validate_schema(merged(values_of("minimal"), values))
