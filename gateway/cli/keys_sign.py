"""`oc-gateway keys sign`: the half of it that needs cryptography, imported when it runs."""

import argparse
import time
from pathlib import Path

from gateway.auth.keyring import Keyring
from gateway.auth.mint import sign_key
from gateway.auth.signed import SignedKeys
from gateway.auth.trusted import read_rules
from gateway.auth.verification import VerificationKey, configured_key
from gateway.cli.loading import fail, load_config, reveal_of
from gateway.config.load import ConfigError
from gateway.config.model import Config
from gateway.core.errors import GatewayError
from gateway.core.events import Json


def sign(args: argparse.Namespace) -> int:
    """Prints a signed key, if the gateway would accept it; else says why not."""
    config = load_config(args.config)
    if config is None:
        return 2
    now = time.time()
    try:
        verifier = _verifier(config, args)
        key = _signed_key(args, verifier, now)
        signed = SignedKeys([verifier], rules=read_rules(config))
        Keyring(keys=[], signed=signed).admit(key, now)
    except (ConfigError, ValueError) as exc:
        return fail(str(exc))
    except GatewayError as exc:
        return fail(f"the gateway would refuse it: {exc.message}")
    print(key)
    return 0


def _verifier(config: Config, args: argparse.Namespace) -> VerificationKey:
    keys = {key.id: key for key in config.auth.signing_keys}
    if args.signing_key not in keys:
        raise ValueError(
            f"no signing key {args.signing_key!r} in {args.config}:"
            f" [[auth.signing_keys]] has {', '.join(keys) or 'none'}"
        )
    return configured_key(keys[args.signing_key], reveal_of(args.config))


def _signed_key(args: argparse.Namespace, verifier: VerificationKey, now: float) -> str:
    key = sign_key(
        args.env,
        _claims(args, int(now)),
        kid=verifier.kid,
        algorithm=verifier.algorithm,
        material=_private_material(args.private_key, verifier),
    )
    if verifier.verify(key.removeprefix(f"oc_{args.env}_")) is None:
        raise ValueError("the configured public key is not the other half of --private-key")
    return key


def _claims(args: argparse.Namespace, now: int) -> dict[str, Json]:
    claims = {
        "sub": args.subject,
        "workspace": args.workspace,
        "tier": args.tier,
        "iat": now,
        "exp": now + int(args.expires),
        "agents": args.agents,
        "user": args.user,
        "jti": args.jti,
    }
    return {name: value for name, value in claims.items() if value is not None}


def _private_material(path: Path | None, verifier: VerificationKey) -> bytes:
    if isinstance(verifier.material, bytes):
        if path is not None:
            raise ValueError("HS256 signs with the configured secret: leave --private-key out")
        return verifier.material
    if path is None:
        raise ValueError(f"{verifier.algorithm} needs --private-key")
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ValueError(f"cannot read {path}: {exc.strerror}") from None
