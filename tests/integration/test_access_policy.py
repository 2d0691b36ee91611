"""A policy made by the tool, an appliance that was started with it, and curl."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.appliance import Appliance, prepare, running
from tools.commands.access import main


def header(file: Path) -> tuple[str, str]:
    """Gives curl's options for a token; its secret stays out of the list of processes."""
    config = file.with_suffix(".curl")
    config.write_text(f'header = "Authorization: Bearer {file.read_text().strip()}"\n')
    return "--config", str(config)


def statuses(appliance: Appliance, *options: str) -> list[int]:
    """Asks for health, the server's metadata, the model, to infer, and to unload the model."""
    body = json.dumps({"inputs": []})
    return [
        appliance.curl("/v2/health/ready", *options).status,
        appliance.curl("/v2", *options).status,
        appliance.curl("/v2/models/digits", *options).status,
        appliance.curl("/v2/models/digits/infer", "--data", body, *options).status,
        appliance.curl("/v2/repository/models/digits/unload", "--data", "{}", *options).status,
    ]


def test_everybody_may_do_what_the_policy_says(tmp_path: Path) -> None:
    policy = tmp_path / "access.json"
    for name, model in (("clinic", "digits"), ("bank", "loans")):
        assert main(["add-tenant", str(policy), name, "--model", model]) == 0
    files = {name: tmp_path / name for name in ("clinic", "revoked", "bank")}
    for name, file in files.items():
        tenant = "bank" if name == "bank" else "clinic"
        assert main(["add-token", str(policy), tenant, "-o", str(file)]) == 0
    assert main(["revoke", str(policy), files["revoked"].read_text().split("_")[1]]) == 0
    config = prepare(tmp_path, access_policy=str(policy), insecure_open_access=False)
    with running(config) as appliance:
        assert statuses(appliance) == [200, 401, 401, 401, 401]
        assert statuses(appliance, *header(files["revoked"])) == [200, 401, 401, 401, 401]
        # 400: there is no tensor in the request, so it came as far as the route.
        assert statuses(appliance, *header(files["clinic"])) == [200, 200, 200, 400, 403]
        assert statuses(appliance, *header(files["bank"])) == [200, 200, 404, 404, 403]
