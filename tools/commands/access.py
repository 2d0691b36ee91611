"""tools/access.py: says who may use the appliance."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from app.access.policy import RIGHTS, Quotas, Tenant, read_policy
from tools.access_policy import (
    add_certificate,
    add_tenant,
    add_token,
    certificate_fingerprint,
    edit_policy,
    make_token,
    remove_tenant,
    revoke,
)
from tools.command_line import DONE, parser, run
from tools.console import say
from tools.errors import AccessPolicyError
from tools.files import write_new_file
from tools.sizes import format_size, parse_size

DESCRIPTION = """\
Says in one policy file who may use the appliance, for what, and how much.

  tools/access.py add-tenant POLICY NAME --model digits --right infer
  tools/access.py add-token POLICY NAME -o TOKENFILE     an API token, shown nowhere else
  tools/access.py add-certificate POLICY NAME CERTIFICATE
  tools/access.py revoke POLICY ID                       a token or a certificate
  tools/access.py remove-tenant POLICY NAME
  tools/access.py list POLICY

Each has its own --help. The file becomes part of the image with
'occlum_image/build.sh --access-policy POLICY'; build again after a change."""

_DEFAULT_RIGHTS: Final = ("infer", "metadata")
_SECRET_MODE: Final = 0o600


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit status."""
    options = _parser().parse_args(argv)
    return run(lambda: options.action(options))


def _parser() -> ArgumentParser:
    found = parser("tools/access.py", DESCRIPTION)
    commands = found.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, meaning: str) -> ArgumentParser:
        command = commands.add_parser(name, help=meaning, description=meaning)
        command.add_argument("policy", type=Path, metavar="POLICY", help="the policy file")
        return command

    _add_tenant_options(add("add-tenant", "add a tenant; makes the file where there is none"))
    token = add("add-token", "make an API token of a tenant")
    token.add_argument("name", metavar="NAME", help="the tenant")
    token.add_argument("--note", default="", metavar="TEXT", help="what it is for")
    token.add_argument(
        *("-o", "--output"),
        type=Path,
        required=True,
        metavar="TOKENFILE",
        help="where the token goes, mode 0600; never overwritten",
    )
    token.set_defaults(action=_add_token)
    certificate = add("add-certificate", "let a tenant use a client certificate")
    certificate.add_argument("name", metavar="NAME", help="the tenant")
    certificate.add_argument("certificate", type=Path, metavar="CERTIFICATE", help="PEM or DER")
    certificate.set_defaults(action=_add_certificate)
    revoking = add("revoke", "take a token or a certificate back")
    revoking.add_argument("credential", metavar="ID", help="token id or fingerprint, as listed")
    revoking.set_defaults(action=_revoke)
    removing = add("remove-tenant", "remove a tenant with all its tokens and certificates")
    removing.add_argument("name", metavar="NAME", help="the tenant")
    removing.set_defaults(action=_remove_tenant)
    add("list", "show tenants, rights, quotas, tokens and certificates").set_defaults(action=_list)
    return found


def _add_tenant_options(found: ArgumentParser) -> None:
    add = found.add_argument
    add("name", metavar="NAME", help="of a-z, 0-9, '.', '_' and '-'")
    models = found.add_mutually_exclusive_group(required=True)
    models.add_argument(
        "--model", action="append", metavar="ID", help="a model it may use; may be repeated"
    )
    models.add_argument("--all-models", action="store_true", help="it may use every model")
    add(
        "--right",
        action="append",
        choices=RIGHTS,
        help=f"may be repeated ({' and '.join(_DEFAULT_RIGHTS)})",
    )
    add("--requests-per-s", type=int, metavar="N", help="sustained; default: no bound")
    add(
        "--bytes-per-s",
        type=parse_size,
        metavar="SIZE",
        help="of requests, sustained, as 10MiB; default: no bound",
    )
    add("--concurrent", type=int, metavar="N", help="requests at a time; default: no bound")
    found.set_defaults(action=_add_tenant)


def _add_tenant(options: Namespace) -> int:
    tenant = Tenant(
        options.name,
        None if options.all_models else frozenset(options.model),
        frozenset(options.right or _DEFAULT_RIGHTS),
        Quotas(options.requests_per_s, options.bytes_per_s, options.concurrent),
    )
    edit_policy(options.policy, lambda policy: add_tenant(policy, tenant))
    say(f"{options.policy}: added the tenant {tenant.name}; it has no token yet")
    return DONE


def _add_token(options: Namespace) -> int:
    token, record = make_token(options.note)
    try:
        write_new_file(options.output, f"{token}\n".encode(), _SECRET_MODE)
    except FileExistsError as error:
        raise AccessPolicyError(
            f"{options.output} exists and tokens are never overwritten; choose another name"
        ) from error
    try:
        edit_policy(options.policy, lambda policy: add_token(policy, options.name, record))
    except BaseException:
        options.output.unlink()  # a token that nobody knows of would only mislead
        raise
    say(f"{options.output}: a token of {options.name}; its id is {record.token_id}")
    return DONE


def _add_certificate(options: Namespace) -> int:
    fingerprint = certificate_fingerprint(options.certificate)
    edit_policy(options.policy, lambda policy: add_certificate(policy, options.name, fingerprint))
    say(f"{options.policy}: {options.name} may use the certificate {fingerprint}")
    return DONE


def _revoke(options: Namespace) -> int:
    edit_policy(options.policy, lambda policy: revoke(policy, options.credential))
    say(f"{options.policy}: revoked {options.credential}")
    return DONE


def _remove_tenant(options: Namespace) -> int:
    edit_policy(options.policy, lambda policy: remove_tenant(policy, options.name))
    say(f"{options.policy}: removed the tenant {options.name}")
    return DONE


def _list(options: Namespace) -> int:
    for tenant in read_policy(options.policy).tenants:
        models = "all models" if tenant.models is None else "models " + _joined(tenant.models)
        say(f"{tenant.name}: {models}; may {_joined(tenant.rights)}; {_quotas(tenant.quotas)}")
        for token in tenant.tokens:
            say(f"  token {token.token_id} {token.note}".rstrip())
        for fingerprint in tenant.certificates:
            say(f"  certificate {fingerprint}")
    return DONE


def _joined(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _quotas(quotas: Quotas) -> str:
    bounds = (
        (quotas.requests_per_s, "{} requests/s"),
        (quotas.bytes_per_s and format_size(quotas.bytes_per_s), "{}/s"),
        (quotas.concurrent, "{} at a time"),
    )
    return ", ".join(text.format(bound) for bound, text in bounds if bound) or "no quotas"
