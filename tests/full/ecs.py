"""The CDK app of ecs/ and its task definitions: synthesized without a network, before linters, and deployed to
moto. moto makes about half of it and knows nothing of gRPC: that names resolve, in an order that works, is shown."""

import json
import os
import pathlib
import re
import socket
import string
import subprocess
import sys
from collections import Counter

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
APP = ROOT / "ecs/cdk"
ACCOUNT, REGION = "123456789012", "us-east-1"
DIGEST = "sha256:" + 64 * "0"
STACKS = [f"grpc-suite-{name}" for name in ["network", "lattice", "services", "cloudfront", "lambda", "lambda-server"]]
SERVERS = {"route-guide": 50051, "greeter": 9000}

# What moto makes of the types of these stacks, and of how many resources it does not know the type.
MADE = {
    "network": {
        "EC2::EIP": 1, "EC2::InternetGateway": 1, "EC2::NatGateway": 1, "EC2::Route": 4, "EC2::RouteTable": 4,
        "EC2::Subnet": 4, "EC2::SubnetRouteTableAssociation": 4, "EC2::VPC": 1, "EC2::VPCEndpoint": 1,
        "EC2::VPCGatewayAttachment": 1, "ECR::Repository": 2, "ECS::Cluster": 1, "IAM::Policy": 1, "IAM::Role": 2,
        "Logs::LogGroup": 2,
    },
    "lattice": {"IAM::Role": 1},
    "services": {
        "EC2::SecurityGroup": 3, "EC2::SecurityGroupIngress": 2, "ECS::Service": 2, "ECS::TaskDefinition": 2,
        "ElasticLoadBalancingV2::Listener": 1, "ElasticLoadBalancingV2::ListenerRule": 2,
        "ElasticLoadBalancingV2::LoadBalancer": 1, "ElasticLoadBalancingV2::TargetGroup": 2,
    },
    "cloudfront": {},
    "lambda": {
        "EC2::SecurityGroup": 1, "EC2::SecurityGroupIngress": 1, "IAM::Role": 1, "Lambda::Function": 1,
        "Logs::LogGroup": 1,
    },
    "lambda-server": {
        "ElasticLoadBalancingV2::ListenerRule": 1, "ElasticLoadBalancingV2::TargetGroup": 1, "IAM::Role": 1,
        "Lambda::Function": 1, "Lambda::Permission": 2, "Logs::LogGroup": 2,
    },
}
NOT_MADE = {
    "ApiGatewayV2::Api": 1, "ApiGatewayV2::Integration": 1, "ApiGatewayV2::Route": 1, "ApiGatewayV2::Stage": 1,
    "ApplicationAutoScaling::ScalableTarget": 2, "ApplicationAutoScaling::ScalingPolicy": 2,
    "CloudFront::Distribution": 1, "CloudWatch::Alarm": 3, "EC2::SecurityGroupEgress": 3,
    "ServiceDiscovery::PrivateDnsNamespace": 1, "ServiceDiscovery::Service": 2, "VpcLattice::Listener": 1, "VpcLattice::Rule": 2, "VpcLattice::Service": 1,
    "VpcLattice::ServiceNetwork": 1, "VpcLattice::ServiceNetworkServiceAssociation": 1,
    "VpcLattice::ServiceNetworkVpcAssociation": 1, "VpcLattice::TargetGroup": 2,
}


def run(*command, **options):
    options = {"capture_output": True, "text": True, "timeout": 180, "cwd": APP} | options
    return subprocess.run([str(word) for word in command], **options)


def output(*command, **options):
    finished = run(*command, **options)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def context(certificate=f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/00000000-0000-0000-0000-000000000000"):
    return {
        "domain": "grpc.example.com",
        "certificateArn": certificate,
        "routeGuideDigest": DIGEST,
        "greeterDigest": DIGEST,
        "lambda": "placeholder",
    }


def flags(**settings):
    return [word for name, value in settings.items() for word in ["-c", f"{name}={value}"]]


@pytest.fixture(scope="session")
def templates(tmp_path_factory):
    """The folder of what the app synthesizes, without a network and without a finding of cdk-nag."""
    folder = tmp_path_factory.mktemp("synth")
    synth = ["npx", "cdk", "synth", "--quiet", "--no-notices", "--output", folder]
    output(*os.environ.get("OFFLINE", "").split(), *synth, *flags(**context()))
    return folder


def test_without_our_reasons_cdk_nag_finds_what_they_are_for(tmp_path):
    without = """
        const { App, Validations } = require('aws-cdk-lib');
        Validations.of(new App()).constructor.prototype.acknowledge = () => {};
        require('./dist/bin/app.js');
    """
    said = run("node", "-e", without, env=os.environ | {
        "CDK_OUTDIR": str(tmp_path), "CDK_CONTEXT_JSON": json.dumps(context()),
    }).stderr
    found = set(re.findall(r"AwsSolutions-[A-Z]+[0-9]+", said))
    reasons = "".join(file.read_text() for file in (APP / "lib").glob("*.ts"))
    assert found == set(re.findall(r"AwsSolutions-[A-Z]+[0-9]+", reasons))


@pytest.mark.parametrize("stack", STACKS)
def test_cfn_lint_finds_nothing(stack, templates):
    # W3005: CDK says twice what a function depends on.
    lint = ["cfn-lint", "--regions", REGION, "--ignore-checks", "W3005", "--"]
    output(*lint, templates / f"{stack}.template.json")


def test_checkov_finds_what_we_skip_with_a_reason_and_nothing_else(templates):
    checkov = ["checkov", "--framework", "cloudformation", "--output", "json", "--skip-download", "--directory"]
    results = json.loads(run(*checkov, templates).stdout)["results"]
    failed = {check["check_id"] for check in results["failed_checks"]}
    assert failed == set(re.findall(r"^- (\w+)", (APP / "checkov.yaml").read_text(), re.MULTILINE))


@pytest.fixture(scope="session")
def moto(tmp_path_factory):
    """The variables of who talks to moto."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        # moto takes CDK's templates from no other name.
        "AWS_ENDPOINT_URL": f"http://localhost:{port}",
        "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true", "CDK_DISABLE_CLI_TELEMETRY": "true",
    }
    log = (tmp_path_factory.mktemp("moto") / "log").open("w")
    command = [sys.executable, ROOT / "tests/full/ecs_moto.py", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process:
        try:
            retry = ["curl", "--silent", "--fail", "--retry", "30", "--retry-connrefused", "--retry-delay", "1"]
            output(*retry, f"http://localhost:{port}/moto-api/data.json")
            yield environment
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def aws(moto):
    def call(*words):
        return json.loads(output("aws", "--output", "json", *words, env=moto) or "null")

    return call


@pytest.fixture(scope="session")
def deployed(aws, moto, tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=grpc.example.com"]
    output(*request, "-keyout", folder / "key", "-out", folder / "certificate")
    imported = aws(
        "acm", "import-certificate", "--certificate", f"fileb://{folder}/certificate",
        "--private-key", f"fileb://{folder}/key",
    )
    output("npx", "cdk", "bootstrap", f"aws://{ACCOUNT}/{REGION}", "--app", "", "--no-notices", env=moto)
    # Directly: what moto makes by change sets, it exports to no other stack.
    deploy = ["npx", "cdk", "deploy", "--all", "--require-approval", "never", "--method", "direct", "--no-notices"]
    output(*deploy, "--output", folder / "synth", *flags(**context(imported["CertificateArn"])), env=moto)


def resources(aws, stack):
    """The types of what moto has made for a stack, and of what it has not."""
    summaries = aws("cloudformation", "list-stack-resources", "--stack-name", stack)["StackResourceSummaries"]
    made, left_out = Counter(), Counter()
    for resource in summaries:
        of = left_out if resource["PhysicalResourceId"].startswith("not-made-") else made
        of[resource["ResourceType"].removeprefix("AWS::")] += 1
    return made, left_out


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_is_created(stack, aws, deployed):
    [found] = aws("cloudformation", "describe-stacks", "--stack-name", stack)["Stacks"]
    assert found["StackStatus"] == "CREATE_COMPLETE"
    assert resources(aws, stack)[0] == MADE[stack.removeprefix("grpc-suite-")]


def test_moto_leaves_out_only_what_it_does_not_know(aws, deployed, capsys):
    left_out = sum((resources(aws, stack)[1] for stack in STACKS), Counter())
    with capsys.disabled():
        print(f"\nNot made by moto: {', '.join(sorted(left_out))}")
    assert left_out == NOT_MADE


@pytest.mark.parametrize("name, port", SERVERS.items())
def test_a_target_group_is_asked_for_the_code_that_tells_the_truth(name, port, aws, deployed):
    groups = aws("elbv2", "describe-target-groups")["TargetGroups"]
    [group] = [group for group in groups if group.get("Port") == port]
    assert (group["HealthCheckPath"], group["Matcher"]) == ("/AWS.ALB/healthcheck", {"GrpcCode": "0"})


def test_three_rules_stand_before_a_404(aws, deployed):
    [balancer] = aws("elbv2", "describe-load-balancers")["LoadBalancers"]
    [listener] = aws("elbv2", "describe-listeners", "--load-balancer-arn", balancer["LoadBalancerArn"])["Listeners"]
    assert (listener["Protocol"], listener["Port"]) == ("HTTPS", 443)
    rules = aws("elbv2", "describe-rules", "--listener-arn", listener["ListenerArn"])["Rules"]
    actions = {rule["Priority"]: rule["Actions"][0]["Type"] for rule in rules}
    assert actions == {"5": "forward", "10": "forward", "20": "forward", "default": "fixed-response"}


def test_services_run_what_the_task_definitions_say(aws, deployed):
    services = aws("ecs", "describe-services", "--cluster", "grpc-suite", "--services", *SERVERS)["services"]
    assert {service["serviceName"] for service in services} == set(SERVERS)
    for service in services:
        definition = aws("ecs", "describe-task-definition", "--task-definition", service["taskDefinition"])
        [container] = definition["taskDefinition"]["containerDefinitions"]
        name = service["serviceName"]
        assert container["image"] == f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/grpc-suite/{name}@{DIGEST}"


def test_the_function_is_told_where_the_greeter_is(aws, deployed):
    function = aws("lambda", "get-function-configuration", "--function-name", "grpc-suite-greeter-caller")
    assert function["Environment"]["Variables"] == {"GREETER_URL": "dns:///greeter.grpc-suite.local:9000"}


def test_the_commands_for_bash_are_bash(aws, deployed):
    outputs = [
        found for stack in aws("cloudformation", "describe-stacks")["Stacks"] for found in stack.get("Outputs", [])
    ]
    commands = [found["OutputValue"] for found in outputs if found["OutputKey"] in ["Bash", "Logs"]]
    assert len(commands) == 3
    for command in commands:
        output("bash", "-n", "-c", command)


# By hand, without CDK


def register(folder, text, moto):
    (folder / "definition.json").write_text(text)
    register = ["aws", "ecs", "register-task-definition", "--output", "json", "--cli-input-json"]
    return run(*register, f"file://{folder}/definition.json", env=moto)


def filled(name):
    """A task definition after envsubst."""
    variables = {"AWS_ACCOUNT_ID": ACCOUNT, "AWS_REGION": REGION, f"{name.upper().replace('-', '_')}_DIGEST": DIGEST}
    return string.Template((ROOT / f"ecs/task-definitions/{name}.json").read_text()).substitute(variables)


@pytest.mark.parametrize("name", SERVERS)
def test_a_task_definition_is_registered_as_it_stands(name, moto, tmp_path):
    text = filled(name)
    found = json.loads(register(tmp_path, text, moto).stdout)["taskDefinition"]
    said = json.loads(text)
    [container], [said_of_it] = found.pop("containerDefinitions"), said.pop("containerDefinitions")
    assert found.items() >= said.items() and container.items() >= said_of_it.items()


def test_a_field_that_ecs_does_not_know_is_refused(moto, tmp_path):
    refused = register(tmp_path, filled("greeter").replace("stopTimeout", "stopTimeOut"), moto)
    assert refused.returncode != 0 and "stopTimeOut" in refused.stderr


@pytest.mark.parametrize("name", SERVERS)
def test_a_repository_is_created(name, aws):
    made = aws("ecr", "create-repository", "--repository-name", f"grpc-suite/{name}", "--region", "eu-central-1")
    assert made["repository"]["repositoryUri"] == f"{ACCOUNT}.dkr.ecr.eu-central-1.amazonaws.com/grpc-suite/{name}"
